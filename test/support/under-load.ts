/**
 * Runs `work` while load goes on, and ends the load with it: also where it fails, because load without an end keeps Jest
 * from ending too.
 *
 * @param load begins the load; settles once its argument says that it is over and every request is answered
 * @param work what is tested meanwhile
 * @throws what `work` throws, else what the load throws
 */
export async function underLoad<Result>(
  load: (isOver: () => boolean) => Promise<unknown>,
  work: () => Promise<Result>,
): Promise<Result> {
  let over = false;
  const ended = load(() => over).then(
    () => null,
    (error: unknown) => ({ error }),
  );
  let result: Result;
  try {
    result = await work();
  } finally {
    over = true;
    await ended;
  }
  const failure = await ended;
  if (failure !== null) throw failure.error;
  return result;
}
