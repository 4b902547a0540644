import { randomUUID } from 'node:crypto';

type Json = Record<string, unknown>;

/** What partners put into their tokens, claim by claim, as they do today. Times are seconds since the Unix epoch. */

/** A token of GitHub Actions for a job: 5 minutes, every value a text. */
export function githubActionsClaims(audience: string, nowSeconds: number, more: Json = {}): Json {
  return {
    actor: 'octocat',
    actor_id: '12',
    aud: audience,
    base_ref: '',
    check_run_id: '96193868770',
    environment: 'production',
    environment_node_id: 'EN_kwDOAAAAQc4AAAAB',
    event_name: 'workflow_dispatch',
    exp: nowSeconds + 300,
    head_ref: '',
    iat: nowSeconds,
    job_workflow_ref: 'octo-org/octo-repo/.github/workflows/deploy.yml@refs/heads/main',
    job_workflow_sha: 'b8962f4eaff8e14fc646cb22c596c81e67d71362',
    jti: randomUUID(),
    nbf: nowSeconds - 300,
    ref: 'refs/heads/main',
    ref_protected: 'true',
    ref_type: 'branch',
    repository: 'octo-org/octo-repo',
    repository_id: '74',
    repository_owner: 'octo-org',
    repository_owner_id: '65',
    repository_visibility: 'private',
    run_attempt: '2',
    run_id: '32291736541',
    run_number: '10',
    runner_environment: 'github-hosted',
    sha: 'b8962f4eaff8e14fc646cb22c596c81e67d71362',
    sub: 'repo:octo-org/octo-repo:environment:production',
    workflow: 'Deploy',
    workflow_ref: 'octo-org/octo-repo/.github/workflows/deploy.yml@refs/heads/main',
    workflow_sha: 'b8962f4eaff8e14fc646cb22c596c81e67d71362',
    ...more,
  };
}

/** The token that the kubelet projects into a pod: an hour, audiences as a list, an object for the cluster's own claims. */
export function kubernetesClaims(audience: string, nowSeconds: number, more: Json = {}): Json {
  return {
    aud: [audience],
    exp: nowSeconds + 3607,
    iat: nowSeconds,
    jti: randomUUID(),
    'kubernetes.io': {
      namespace: 'payments',
      node: { name: 'node-1', uid: '646e7c5e-32d6-4d42-9dbd-e504e6cbe6b1' },
      pod: { name: 'invoice-agent-7d9c5b8f6d-x2x7q', uid: '5e0bd49b-f040-43b0-99b7-22765a53f7f3' },
      serviceaccount: { name: 'invoice-agent', uid: '14ee3fa4-a7e2-420f-9f9a-dbc4507c3798' },
      warnafter: nowSeconds + 3007,
    },
    nbf: nowSeconds,
    sub: 'system:serviceaccount:payments:invoice-agent',
    ...more,
  };
}

/** A JWT-SVID of SPIRE, whose server has a `jwt_issuer`: 5 minutes. */
export function spiffeClaims(audience: string, nowSeconds: number, more: Json = {}): Json {
  return {
    aud: [audience],
    exp: nowSeconds + 300,
    iat: nowSeconds,
    sub: 'spiffe://example.org/ns/payments/sa/invoice-agent',
    ...more,
  };
}
