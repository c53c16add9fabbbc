// A real OpenID provider (npm's oidc-provider) for the suite: prints its issuer on a line of its own, and ends with its standard input.
// Invariant: loopback alone, keys and clients made for this run, everything in memory. The folder it is installed in is the first
// argument. Clients: `panel` gets access tokens for the resource `urn:gatelet`, JWTs signed with the algorithm that the scope names;
// `opaque` gets opaque ones; `gateway` introspects.
import http from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { generateKeyPairSync } from 'node:crypto';

const require = createRequire(`${process.argv[2]}/package.json`);
const { Provider } = await import(pathToFileURL(require.resolve('oidc-provider')));
const key = (kid, alg, kind, options) => ({ ...generateKeyPairSync(kind, options).privateKey.export({ format: 'jwk' }), kid, alg, use: 'sig' });
const jwks = { keys: [
  key('r', 'RS256', 'rsa', { modulusLength: 2048 }),
  key('e', 'ES256', 'ec', { namedCurve: 'P-256' }),
  key('d', 'EdDSA', 'ed25519', {}),
] };

const server = http.createServer();
await new Promise((done) => server.listen(0, '127.0.0.1', done));
const issuer = `http://127.0.0.1:${server.address().port}`;
const machine = (client_id, audience) => ({
  client_id, client_secret: 'a-secret-of-this-run', redirect_uris: [], response_types: [], grant_types: ['client_credentials'], audience,
});
const provider = new Provider(issuer, {
  jwks,
  clients: [machine('panel'), machine('opaque'), machine('gateway')],
  scopes: ['openid', 'RS256', 'ES256', 'EdDSA'],
  enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256', 'EdDSA'] },
  ttl: { ClientCredentials: Number(process.argv[3] ?? 600) },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: async () => true },
    revocation: { enabled: true, allowedPolicy: async () => true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'urn:gatelet',
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource, client) => {
        const alg = ctx.oidc.params?.scope?.split(' ').find((s) => ['RS256', 'ES256', 'EdDSA'].includes(s));
        const format = client.clientId === 'opaque' ? 'opaque' : 'jwt';
        return { scope: 'RS256 ES256 EdDSA', audience: 'urn:gatelet', accessTokenFormat: format, jwt: { sign: { alg: alg ?? 'RS256' } } };
      },
    },
  },
});
server.on('request', provider.callback());
console.log(issuer);
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
