/** What an organization pays for; the limits of each stand in the table `tiers`, its rates in the configuration. */
export const TIERS = ['free', 'pro', 'enterprise'] as const;
export type Tier = (typeof TIERS)[number];
