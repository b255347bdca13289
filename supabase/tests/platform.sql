-- A stand-in for what Supabase's platform brings along: its roles and the parts of the schemas `auth` and
-- `realtime` that our migrations and Realtime's own queries touch. Run as the superuser `supabase_admin`.
-- It is ours, written from the platform's documented behaviour; it is not the platform.

create role postgres login createrole createdb bypassrls replication;
create role anon nologin;
create role authenticated nologin;
create role service_role nologin bypassrls;
create role authenticator login noinherit;
create role supabase_realtime_admin nologin noinherit;
create role realtime_server login;  -- what the Realtime server signs in as: owner of the table, no superuser
grant anon, authenticated, service_role to authenticator, postgres;
grant anon, authenticated, service_role, supabase_realtime_admin to realtime_server;
-- On the platform `postgres` may make policies on realtime.messages by a list of supautils; here by membership.
grant supabase_realtime_admin to postgres;
grant pg_signal_backend, pg_monitor to postgres;

do $$ begin execute format('grant create, connect, temporary on database %I to postgres', current_database()); end $$;
grant all on schema public to postgres;
grant usage on schema public to anon, authenticated, service_role;
-- The platform's default grants reopen `public` for everybody: nothing of ours may stand there.
alter default privileges for role postgres in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges for role postgres in schema public grant all on functions to anon, authenticated, service_role;

create schema auth;
grant usage on schema auth to anon, authenticated, service_role;
create function auth.jwt() returns jsonb language sql stable as $$
    select coalesce(nullif(current_setting('request.jwt.claim', true), ''),
                    nullif(current_setting('request.jwt.claims', true), ''))::jsonb
$$;

create schema realtime authorization supabase_realtime_admin;
grant usage on schema realtime to anon, authenticated, service_role, postgres;
create function realtime.topic() returns text language sql stable as $$
    select nullif(current_setting('realtime.topic', true), '')::text
$$;
create table realtime.messages (
    topic text not null,
    extension text not null,
    payload jsonb,
    event text,
    private boolean default false,
    updated_at timestamp not null default now(),
    inserted_at timestamp not null default now(),
    id uuid not null default gen_random_uuid(),
    primary key (id, inserted_at)
) partition by range (inserted_at);
alter table realtime.messages owner to supabase_realtime_admin;
alter table realtime.messages enable row level security;
grant select, insert, update on realtime.messages to anon, authenticated, service_role;
-- One part a day; Realtime makes those from yesterday to three days ahead.
do $$
declare day date;
begin
    for day in select generate_series(current_date - 1, current_date + 3, interval '1 day')::date loop
        execute format('create table realtime.messages_%s partition of realtime.messages for values from (%L) to (%L)',
            to_char(day, 'YYYY_MM_DD'), day, day + 1);
        execute format('alter table realtime.messages_%s owner to supabase_realtime_admin', to_char(day, 'YYYY_MM_DD'));
    end loop;
end
$$;
