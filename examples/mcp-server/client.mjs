// client.mjs
// An agent that calls the tool. The SDK finds the authorization server, gets a token and sends it.
import { ClientCredentialsProvider } from '@modelcontextprotocol/sdk/client/auth-extensions.js';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

const { ISSUER = 'http://localhost:3000', MCP_SERVER = 'http://localhost:4003/mcp' } = process.env;
const { CLIENT_ID = '', CLIENT_SECRET = '' } = process.env;
const city = process.argv[2] ?? 'Lisbon';

const authProvider = new ClientCredentialsProvider({
  clientId: CLIENT_ID,
  clientSecret: CLIENT_SECRET,
  // The secret goes to this authorization server only, whichever the MCP server names.
  expectedIssuer: ISSUER,
});

const client = new Client({ name: 'forecast-reader', version: '1.0.0' });
try {
  await client.connect(new StreamableHTTPClientTransport(new URL(MCP_SERVER), { authProvider }));
  const result = await client.callTool({ name: 'forecast', arguments: { city } });
  console.log(result.content[0].text);
} catch (error) {
  console.error(`${error.name}: ${error.message}`);
  process.exitCode = 1;
} finally {
  await client.close();
}
