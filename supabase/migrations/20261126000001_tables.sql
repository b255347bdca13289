-- The tables of VoiceMeet. One rule: who talks to whom lives in UNLOGGED tables only (no write-ahead log, no
-- replica, no physical backup, empty after a crash); what is kept is reports, scores and hourly sums.
--
-- Every migration may be applied twice: `if not exists` and `create or replace` throughout.

create schema if not exists voicemeet;
revoke all on schema voicemeet from public;

-- The one role the function signs in as: it may run the verbs and read no table. It gets its password by
-- hand (docs/hosted.md), so that no secret stands in a migration.
do $$
begin
    if not exists (select from pg_roles where rolname = 'voicemeet_function') then
        create role voicemeet_function nologin;
    end if;
end
$$;
grant usage on schema voicemeet to voicemeet_function;

-- One row: what an operator may change with an `update`. Times in seconds.
create table if not exists voicemeet.settings (
    single boolean primary key default true check (single),
    poll_after_s real not null default 15 check (poll_after_s > 0),
    answerer_poll_s real not null default 60 check (answerer_poll_s > 0),
    door_poll_s real not null default 300 check (door_poll_s > 0),    -- a door that stands by
    kept_match_s real not null default 60,
    avoid_repeat_s real not null default 600,
    repeat_after_s real not null default 6,
    max_waiting integer not null default 20000,         -- tickets in one pool
    max_call_s real not null default 3600,
    report_weight real not null default 1,
    half_life_s real not null default 259200,
    separate_at real not null default 1.8,
    refuse_at real not null default 4.5,
    report_days real not null default 30,
    session_per_s real not null default 1,              -- new device tokens without a pass, of one address
    session_burst real not null default 60,
    pass_per_s real not null default 100,               -- new device tokens with one pass: a whole building
    pass_burst real not null default 4000,
    device_per_s real not null default 2,               -- requests of one device token
    device_burst real not null default 20,
    report_after_s real not null default 5,             -- a call younger than this raises no score
    address_searches integer not null default 16,       -- at once in open pools, lately matched ones included
    report_per_s real not null default 0.05,
    report_burst real not null default 5
);
insert into voicemeet.settings default values on conflict do nothing;

-- Which pools there are. A closed one is entered with a pass; with admission keys also with a proof.
create table if not exists voicemeet.pools (
    name text primary key check (name ~ '^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$'),
    is_open boolean not null default false,
    -- Each 128 bytes: the key XORed with HMAC's inner and outer pad (RFC 2104 section 2), ready for use.
    admission_keys bytea[] not null default '{}' check (cardinality(admission_keys) <= 2)
);
insert into voicemeet.pools values ('public', true) on conflict do nothing;

-- Capabilities, kept as hashes; not when or from where they were used.
create table if not exists voicemeet.passes (
    hash text primary key check (hash ~ '^[0-9a-f]{64}$'),
    pool text not null references voicemeet.pools on delete cascade,
    role text not null check (role in ('caller', 'answerer', 'either')),
    label text not null default '',
    made_at timestamptz not null default now(),
    revoked_at timestamptz
);
create unique index if not exists passes_short on voicemeet.passes (left(hash, 16));

-- Waiting and lately matched parties. `device` is a hash of a short-lived token, never of hardware.
create unlogged table if not exists voicemeet.tickets (
    ticket text primary key,
    device text not null unique,                        -- one search each
    pool text not null,
    -- The queue it is in: a desk that takes no call waits as busy or away, a door that stands by as door.
    role text not null check (role in ('caller', 'answerer', 'either', 'busy', 'away', 'door')),
    flagged boolean not null,
    since timestamptz not null,
    seen timestamptz not null,
    call_id text,                                       -- null: waiting
    slot text check (slot in ('a', 'b')),
    partner text,                                       -- the other ticket of the call
    peer_role text,
    collected boolean not null default false,           -- this side has heard of the match
    kept_until timestamptz,
    address text,                                       -- an HMAC of the day; only in open pools, for a budget
    rings boolean not null default false,               -- a caller that rings all desks: it stays in its queue
    label text,                                         -- of a door, for desks to choose by; often sealed
    door text                                           -- how a desk asks for this door
) with (fillfactor = 70, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0);

-- Partial, and without `seen`: a poll then updates in place (HOT), and matching stays flat at 100,000 waiting.
create index if not exists tickets_waiting on voicemeet.tickets (pool, flagged, role, since)
    where call_id is null;

create index if not exists tickets_door on voicemeet.tickets (door) where door is not null;

-- The desks that a ringing ticket has found: a call each, and no desk twice.
create unlogged table if not exists voicemeet.legs (
    call_id text primary key,
    ticket text not null,                               -- no foreign key: it would be asked at every leave
    device text not null,                               -- of the desk
    desk text not null,                                 -- its ticket
    kept_until timestamptz not null,
    collected boolean not null default false,           -- the caller has heard of it
    unique (ticket, device)
) with (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0);

create index if not exists tickets_address on voicemeet.tickets (address) where address is not null;

-- Running calls: which two devices (for reports), until when, and the relay credentials to take back.
create unlogged table if not exists voicemeet.calls (
    call_id text primary key,
    device_a text not null,
    device_b text not null,
    strangers boolean not null,                         -- an open pool, and both of role `either`
    matched_at timestamptz not null,
    until timestamptz not null,
    heard boolean not null default false,               -- both sides have asked and been told
    ended_a timestamptz,
    ended_b timestamptz,
    grant_a jsonb,
    grant_b jsonb
) with (fillfactor = 70, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0);

-- Strangers who met lately and are kept apart while somebody else is there.
create unlogged table if not exists voicemeet.acquaintances (
    device text not null,
    partner text not null,
    until timestamptz not null,
    primary key (device, partner)
) with (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0);

-- Token buckets. Keys of addresses are HMACs with a daily salt, made by the function.
create unlogged table if not exists voicemeet.buckets (
    key text primary key,
    full_at timestamptz not null                        -- when it has all its tokens again
) with (fillfactor = 70, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0);

-- Which token replaced which, so that a report about the old one finds the new one.
create unlogged table if not exists voicemeet.successors (
    device text primary key,
    next text not null,
    at timestamptz not null
);

-- What a report's weight was counted for lately: a pair of devices, an address and a device.
create unlogged table if not exists voicemeet.counted (
    key text primary key,
    at timestamptz not null
);

create table if not exists voicemeet.reports (
    receipt text primary key,
    reported text,
    reason text not null check (reason ~ '^[a-z][a-z0-9_]{0,31}$'),
    at timestamptz not null default now(),
    held boolean not null default false
);
create index if not exists reports_at on voicemeet.reports (at);

create table if not exists voicemeet.scores (
    device text primary key,
    value double precision not null,
    at timestamptz not null
) with (fillfactor = 80);

create table if not exists voicemeet.call_hours (
    hour timestamptz primary key,
    calls bigint not null,
    seconds bigint not null
);

-- A second lock behind the missing rights: row security on, and no policy for anybody.
alter table voicemeet.settings enable row level security;
alter table voicemeet.pools enable row level security;
alter table voicemeet.passes enable row level security;
alter table voicemeet.counted enable row level security;
alter table voicemeet.tickets enable row level security;
alter table voicemeet.legs enable row level security;
alter table voicemeet.calls enable row level security;
alter table voicemeet.acquaintances enable row level security;
alter table voicemeet.buckets enable row level security;
alter table voicemeet.successors enable row level security;
alter table voicemeet.reports enable row level security;
alter table voicemeet.scores enable row level security;
alter table voicemeet.call_hours enable row level security;

revoke all on all tables in schema voicemeet from public;
revoke execute on all functions in schema voicemeet from public;
