import fs from 'node:fs';
import path from 'node:path';

/** Prints the table and writes it as Markdown and JSON, with a bar chart of the ratios as SVG. */
export function report(folder, about, results) {
  fs.mkdirSync(folder, { recursive: true });
  const rows = results.map(row);
  const markdown = [
    `${about.cpu}, ${about.cores} cores, Node ${about.node}; medians of ${about.rounds} rounds of ${about.seconds} s, in turn.`,
    '',
    '| case | ours /s | p50 ms | p99 ms | oidc-provider /s | its p99 ms | ours : oidc-provider | ours : ceiling |',
    '|---|---|---|---|---|---|---|---|',
    ...rows.map(
      (r) =>
        `| ${r.name} | ${r.rate} | ${r.p50} | ${r.p99} | ${r.rivalRate} | ${r.rivalP99} | ${r.ratio} | ${r.ofCeiling} |`,
    ),
    '',
  ].join('\n');
  fs.writeFileSync(path.join(folder, 'table.md'), markdown);
  fs.writeFileSync(path.join(folder, 'results.json'), `${JSON.stringify({ about, results }, null, 2)}\n`);
  fs.writeFileSync(path.join(folder, 'ratios.svg'), chart(rows));
  console.log(markdown);
}

function row({ name, rounds }) {
  const of = (pick) => median(rounds.map(pick));
  const spread = (pick) => {
    const all = rounds.map(pick);
    return `${of(pick).toFixed(2)} (${Math.min(...all).toFixed(2)} to ${Math.max(...all).toFixed(2)})`;
  };
  return {
    name,
    rate: Math.round(of((r) => r.ours.rate)),
    p50: of((r) => r.ours.p50),
    p99: of((r) => r.ours.p99),
    rivalRate: Math.round(of((r) => r.rival.rate)),
    rivalP99: of((r) => r.rival.p99),
    ratio: spread((r) => r.ours.rate / r.rival.rate),
    value: of((r) => r.ours.rate / r.rival.rate),
    ofCeiling: rounds[0].ceiling === null ? '' : spread((r) => r.ours.rate / r.ceiling),
  };
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

function chart(rows) {
  const widest = Math.max(1, ...rows.map(({ value }) => value));
  const bars = rows.map(({ name, value, ratio }, index) => {
    const y = 30 + index * 34;
    return (
      `<text x="8" y="${y + 15}">${name}</text>` +
      `<rect x="190" y="${y}" width="${Math.round((value / widest) * 330)}" height="20" fill="#2f6f4f"/>` +
      `<text x="530" y="${y + 15}">${ratio}</text>`
    );
  });
  const one = 190 + Math.round(330 / widest);
  const height = 40 + rows.length * 34;
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="720" height="${height}" font-family="sans-serif" font-size="12">` +
    `<text x="8" y="18">Requests a second, ours : node-oidc-provider (line: equal)</text>${bars.join('')}` +
    `<line x1="${one}" y1="24" x2="${one}" y2="${height - 6}" stroke="#b00020"/></svg>\n`
  );
}
