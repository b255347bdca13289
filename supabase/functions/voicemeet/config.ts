// The function's settings, from the environment. One rule: what is missing is said at the first request, by
// name and without its value.

export interface Config {
  databaseUrl: string;
  apikeys: string[];
  deviceSecret: string;
  signingKey: (JsonWebKey & { kid?: string }) | null;
  jwtSecret: string;
  doorSecret: string;
  realtimeUrl: string;
  secretKey: string;
  origin: string;
  turn: TurnConfig;
}

export type TurnConfig =
  | { provider: "off" }
  | { provider: "hmac"; secret: string; urls: string[] }
  | { provider: "cloudflare"; api: string; keyId: string; token: string };

type Environment = { get(name: string): string | undefined };

export class ConfigError extends Error {}

export function readConfig(env: Environment): Config {
  const need = (name: string) => {
    const value = env.get(name);
    if (!value) throw new ConfigError(`the secret ${name} is not set (docs/hosted.md)`);
    return value;
  };
  const signingKey = env.get("VOICEMEET_SIGNING_KEY");
  const jwtSecret = env.get("VOICEMEET_JWT_SECRET") ?? "";
  if (!signingKey && !jwtSecret) need("VOICEMEET_SIGNING_KEY");
  const deviceSecret = need("VOICEMEET_DEVICE_SECRET");
  if (deviceSecret.length < 32) throw new ConfigError("VOICEMEET_DEVICE_SECRET needs 32 characters or more");
  return {
    databaseUrl: env.get("VOICEMEET_DB_URL") || need("SUPABASE_DB_URL"),
    apikeys: keys("SUPABASE_PUBLISHABLE_KEYS", need("SUPABASE_PUBLISHABLE_KEYS")),
    deviceSecret,
    signingKey: signingKey ? firstKey(signingKey) : null,
    jwtSecret,
    doorSecret: env.get("VOICEMEET_DOOR_SECRET") ?? "",
    realtimeUrl: `${need("SUPABASE_URL").replace(/\/+$/, "")}/realtime/v1`,
    secretKey: keys("SUPABASE_SECRET_KEYS", need("SUPABASE_SECRET_KEYS"))[0] ?? "",
    origin: env.get("VOICEMEET_ORIGIN") ?? "*",
    turn: turnConfig(env, need),
  };
}

function turnConfig(env: Environment, need: (name: string) => string): TurnConfig {
  switch (env.get("VOICEMEET_TURN") ?? "cloudflare") {
    case "off":
      return { provider: "off" };
    case "hmac":
      return {
        provider: "hmac",
        secret: need("VOICEMEET_TURN_SECRET"),
        urls: need("VOICEMEET_TURN_URLS").split(/[\s,]+/).filter(Boolean),
      };
    case "cloudflare":
      return {
        provider: "cloudflare",
        api: env.get("VOICEMEET_TURN_API") ?? "https://rtc.live.cloudflare.com",
        keyId: need("VOICEMEET_TURN_KEY_ID"),
        token: need("VOICEMEET_TURN_TOKEN"),
      };
    default:
      throw new ConfigError("VOICEMEET_TURN must be cloudflare, hmac or off");
  }
}

/** `{"default": "sb_…"}` as the platform gives it, a list, or one bare key. */
function keys(name: string, text: string): string[] {
  if (!text.startsWith("{") && !text.startsWith("[")) return [text];
  try {
    return Object.values(JSON.parse(text) as Record<string, string>).filter((key) => typeof key === "string");
  } catch {
    throw new ConfigError(`${name} is not JSON`);
  }
}

/** The command line prints one key; `signing_keys.json` holds a list. */
function firstKey(text: string): JsonWebKey & { kid?: string } {
  try {
    const value = JSON.parse(text);
    return Array.isArray(value) ? value[0] : value;
  } catch {
    throw new ConfigError("VOICEMEET_SIGNING_KEY is not JSON");
  }
}
