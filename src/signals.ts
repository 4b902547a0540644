/** Settles with the first signal that asks the process to end. From then on further ones change nothing. */
export const askedToEnd = new Promise<NodeJS.Signals>((resolve) => {
  process.on('SIGINT', resolve);
  process.on('SIGTERM', resolve);
  // The terminal was closed.
  process.on('SIGHUP', resolve);
});
