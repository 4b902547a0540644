import { Injectable } from '@nestjs/common';

/** Spaces deliveries so that they leave the processor to the token path. */
@Injectable()
export class DeliveryPace {
  /** Waits for the turn of one delivery. */
  async turn(): Promise<void> {
    await Promise.resolve();
  }
}
