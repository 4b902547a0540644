import { constants, generateKeyPairSync, sign } from 'node:crypto';
import os from 'node:os';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

/**
 * Signatures a second that all cores reach together when they do nothing else: what no server can exceed.
 *
 * @param {'RS256' | 'ES256'} alg
 * @param {number} seconds
 */
export async function signatureCeiling(alg, seconds) {
  const workers = Array.from({ length: os.availableParallelism() }, () => {
    const worker = new Worker(fileURLToPath(import.meta.url), { workerData: { alg, seconds } });
    return new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
  });
  return (await Promise.all(workers)).reduce((sum, rate) => sum + rate, 0);
}

if (!isMainThread) {
  const { alg, seconds } = workerData;
  const { privateKey } =
    alg === 'ES256'
      ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
      : generateKeyPairSync('rsa', { modulusLength: 2048 });
  const key =
    alg === 'ES256'
      ? { key: privateKey, dsaEncoding: 'ieee-p1363' }
      : { key: privateKey, padding: constants.RSA_PKCS1_PADDING };
  const input = Buffer.alloc(700, 'x');
  const end = performance.now() + seconds * 1000;
  const started = performance.now();
  let count = 0;
  while (performance.now() < end) {
    sign('sha256', input, key);
    count += 1;
  }
  parentPort.postMessage((count / (performance.now() - started)) * 1000);
}
