import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/**
 * Prints a table and writes it as Markdown, with the figures as JSON.
 *
 * @param {string} folder where the results go
 * @param {{ name: string, title: string, head: string[], rows: (string | number)[][], data?: unknown, svg?: string }} section
 */
export function report(folder, { name, title, head, rows, data, svg }) {
  fs.mkdirSync(folder, { recursive: true });
  const line = (cells) => `| ${cells.join(' | ')} |`;
  const table = [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
  const markdown = `### ${title}\n\n${hardware()}\n\n${table}\n`;
  fs.writeFileSync(path.join(folder, `${name}.md`), markdown);
  fs.writeFileSync(
    path.join(folder, `${name}.json`),
    `${JSON.stringify({ hardware: hardware(), rows, data }, null, 2)}\n`,
  );
  if (svg !== undefined) fs.writeFileSync(path.join(folder, `${name}.svg`), svg);
  console.log(markdown);
}

function hardware() {
  const [load] = os.loadavg();
  return `${os.cpus()[0]?.model ?? 'unknown'}, ${os.availableParallelism()} cores, Node ${process.version}, ${new Date().toISOString()}, load average ${load.toFixed(1)}.`;
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The median of a figure over rounds, with the least and the most. */
export function spread(rounds, pick) {
  const all = rounds.map(pick);
  return `${median(all).toFixed(2)} (${Math.min(...all).toFixed(2)} to ${Math.max(...all).toFixed(2)})`;
}

/** The medians of what one side came to: rate, latencies and costs, as cells of a table. */
export function cells(rounds, side) {
  const of = (pick) => median(rounds.map((round) => pick(round[side])));
  const cost = (name) => (rounds[0][side].cost === null ? '' : Math.round(of(({ cost: all }) => all[name])));
  return {
    rate: Math.round(of(({ rate }) => rate)),
    p50: of(({ p50 }) => p50).toFixed(2),
    p99: of(({ p99 }) => p99).toFixed(1),
    cost: ['script', 'pool', 'helpers', 'postgres', 'generator'].map(cost),
  };
}

/** Bars of ratios; a line at 1. */
export function ratioBars(title, bars) {
  const widest = Math.max(1, ...bars.map(({ value }) => value));
  const drawn = bars.map(({ name, value, text }, index) => {
    const y = 30 + index * 34;
    return (
      `<text x="8" y="${y + 15}">${name}</text>` +
      `<rect x="230" y="${y}" width="${Math.round((value / widest) * 290)}" height="20" fill="#2f6f4f"/>` +
      `<text x="530" y="${y + 15}">${text}</text>`
    );
  });
  const one = 230 + Math.round(290 / widest);
  const height = 40 + bars.length * 34;
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="720" height="${height}" font-family="sans-serif" font-size="12">` +
    `<text x="8" y="18">${title}</text>${drawn.join('')}` +
    `<line x1="${one}" y1="24" x2="${one}" y2="${height - 6}" stroke="#b00020"/></svg>\n`
  );
}

/** A curve over a logarithmic axis: points are `[x, y]`. */
export function curve(title, lines) {
  const points = lines.flatMap(({ points: all }) => all);
  const [left, right] = [
    Math.log10(Math.min(...points.map(([x]) => x))),
    Math.log10(Math.max(...points.map(([x]) => x))),
  ];
  const top = Math.max(...points.map(([, y]) => y));
  const at = ([x, y]) => {
    const share = right === left ? 0 : (Math.log10(x) - left) / (right - left);
    return `${Math.round(60 + share * 480)},${Math.round(230 - (y / top) * 180)}`;
  };
  const drawn = lines.map(({ name, points: all }, index) => {
    const colour = ['#2f6f4f', '#b00020', '#1f4e8c', '#8a6d1a'][index % 4];
    const dots = all.map(
      (point) => `<circle cx="${at(point).split(',')[0]}" cy="${at(point).split(',')[1]}" r="3" fill="${colour}"/>`,
    );
    return `<polyline fill="none" stroke="${colour}" points="${all.map(at).join(' ')}"/>${dots.join('')}<text x="560" y="${60 + index * 18}" fill="${colour}">${name}</text>`;
  });
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="760" height="270" font-family="sans-serif" font-size="12">` +
    `<text x="8" y="18">${title}</text><text x="8" y="54">${Math.round(top)}</text><line x1="60" y1="230" x2="540" y2="230" stroke="#888"/>` +
    `<text x="60" y="250">${10 ** left}</text><text x="500" y="250">${10 ** right}</text>${drawn.join('')}</svg>\n`
  );
}
