import { describe, expect, it } from '@jest/globals';
import { SchedulerRegistry } from '@nestjs/schedule';
import { createApp } from '../../src/app.js';
import { loadConfig } from '../../src/platform/config/load-config.js';
import { environmentOf, runCommand } from '../support/service-process.js';
import { startTestApp } from '../support/test-app.js';
import { TEST_MASTER_KEY } from '../support/test-database.js';

describe('an operator command', () => {
  it('runs none of the timers of the service: it signs no checkpoints, removes nothing and closes no windows', async () => {
    const service = await startTestApp();
    try {
      expect(service.app.get(SchedulerRegistry, { strict: false }).getIntervals()).not.toEqual([]);
      const { servingUrl } = service.database;
      const config = loadConfig({ NODE_ENV: 'test', LOG_LEVEL: 'silent', DATABASE_URL: servingUrl });
      const { clock } = service;
      const command = await createApp({ config, clock, masterKey: TEST_MASTER_KEY, servingUrl }, 'command');
      try {
        const timers = command.get(SchedulerRegistry, { strict: false });
        expect([timers.getIntervals(), timers.getTimeouts(), [...timers.getCronJobs()]]).toEqual([[], [], []]);
      } finally {
        await command.close();
      }
    } finally {
      await service.close();
    }
  });

  it('takes a kid that begins with a dash, as one of 64 does, for a kid', async () => {
    const service = await startTestApp();
    try {
      const kid = '-zbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs';
      const { code, output } = await runCommand(['keys:revoke', kid], environmentOf(service.database));
      expect([code, output]).toEqual([1, expect.not.stringContaining('Usage:')]);
    } finally {
      await service.close();
    }
  });
});
