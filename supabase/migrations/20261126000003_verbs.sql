-- The verbs as the Edge Function asks for them: limits first, then the work, one statement each.
-- Every function takes and returns one jsonb object; "error" in it is the contract's code.

-- In: device (the new token's hash), old (the old one's, or null), address (a hash, or null), pass (the hash
-- of the pass to enrol with, or null).
create or replace function voicemeet.session(p jsonb)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
    s voicemeet.settings;
    v_now constant timestamptz := clock_timestamp();
    refused jsonb;
    inherited double precision;
begin
    select * into strict s from voicemeet.settings;
    if p->>'pass' is not null and exists (
            select from voicemeet.passes where hash = p->>'pass' and revoked_at is null) then
        refused := voicemeet.too_fast('pass ' || left(p->>'pass', 16), s.pass_per_s, s.pass_burst, v_now);
    elsif p->>'address' is not null then
        -- Whoever shows no good pass is a stranger, and guessing is counted too.
        refused := voicemeet.too_fast('session ' || (p->>'address'), s.session_per_s, s.session_burst, v_now);
    end if;
    if refused is not null then
        return refused;
    end if;
    if p->>'pass' is not null and not exists (
            select from voicemeet.passes where hash = p->>'pass' and revoked_at is null) then
        return jsonb_build_object('error', 'pass_refused');
    end if;
    if p->>'old' is not null then
        insert into voicemeet.successors values (p->>'old', p->>'device', v_now)
            on conflict (device) do update set next = excluded.next, at = excluded.at;
        inherited := voicemeet.score(p->>'old', v_now, s.half_life_s);
        if inherited >= 0.02 then
            insert into voicemeet.scores values (p->>'device', inherited, v_now) on conflict (device) do nothing;
        end if;
    end if;
    return jsonb_build_object('ok', true);
end
$$;

-- Say why this party may not take this role in this closed pool, or null. In: pass (the first 16 hex digits
-- of its hash, from the device token), pool, role, proof (hex) and proven (what it is made of).
create or replace function voicemeet.refused_admission(p_pool voicemeet.pools, p jsonb)
returns text language plpgsql stable as $$
declare
    v_pass voicemeet.passes;
    pads bytea;
begin
    if p->>'pass' is null then
        return 'pass_needed';
    end if;
    select * into v_pass from voicemeet.passes where left(hash, 16) = p->>'pass';
    if not found or v_pass.revoked_at is not null or v_pass.pool <> p_pool.name or v_pass.role <> p->>'role' then
        return 'pass_refused';
    end if;
    if cardinality(p_pool.admission_keys) = 0 then
        return null;
    end if;
    if p->>'proof' is null then
        return 'proof_needed';
    end if;
    foreach pads in array p_pool.admission_keys loop
        -- HMAC-SHA-256 (RFC 2104 section 2). The digests are compared by their own digests: no timing.
        if sha256(sha256(substr(pads, 65) || sha256(substr(pads, 1, 64) || convert_to(p->>'proven', 'UTF8'))))
                = sha256(decode(p->>'proof', 'hex')) then
            return null;
        end if;
    end loop;
    return 'proof_refused';
end
$$;

-- In: device, ticket, pool, role, call_id (fresh random bits, used when a call is made); pass, proof, proven.
-- Its statements are planned once a connection, without looking at the values: planning them anew for each
-- question, as Postgres would, costs more than all the rest.
create or replace function voicemeet.match(p jsonb)
returns jsonb language plpgsql security definer
set search_path = '' set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
declare
    s voicemeet.settings;
    v_pool voicemeet.pools;
    v_now constant timestamptz := clock_timestamp();
    refused jsonb;
    not_admitted text;
begin
    select * into strict s from voicemeet.settings;
    refused := voicemeet.too_fast('device ' || (p->>'device'), s.device_per_s, s.device_burst, v_now);
    if refused is not null then
        return refused;
    end if;
    select * into v_pool from voicemeet.pools where name = p->>'pool';
    if not found then
        return jsonb_build_object('error', 'unknown_pool');
    end if;
    if not v_pool.is_open then
        not_admitted := voicemeet.refused_admission(v_pool, p);
        if not_admitted is not null then
            return jsonb_build_object('error', not_admitted);
        end if;
    end if;
    if v_pool.is_open and (p->>'label' is not null or p->>'door' is not null) then
        return jsonb_build_object('error', 'bad_request');
    end if;
    if (p->>'ring')::boolean then
        return voicemeet.ring(s, v_pool.is_open, p, v_now);
    end if;
    return voicemeet.search(s, v_pool.is_open, p, v_now);
end
$$;

-- In: device, pool, pass. The doors of a closed pool, for one of its answerers.
create or replace function voicemeet.doors(p jsonb)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
    s voicemeet.settings;
    v_now constant timestamptz := clock_timestamp();
    refused jsonb;
begin
    select * into strict s from voicemeet.settings;
    refused := voicemeet.too_fast('device ' || (p->>'device'), s.device_per_s, s.device_burst, v_now);
    if refused is not null then
        return refused;
    end if;
    if p->>'pass' is null then
        return jsonb_build_object('error', 'pass_needed');
    end if;
    if not exists (select from voicemeet.passes where left(hash, 16) = p->>'pass' and revoked_at is null
                       and pool = p->>'pool' and role = 'answerer') then
        return jsonb_build_object('error', 'pass_refused');
    end if;
    return (
        with standing as (
            select t.door, t.label from voicemeet.tickets t
            where t.pool = p->>'pool' and not t.flagged and t.role = 'door' and t.call_id is null
                and t.seen >= v_now - voicemeet.forgotten_after(s, 'door'))
        select jsonb_build_object('count', (select count(*) from standing), 'doors', coalesce((
            select jsonb_agg(jsonb_build_object('door', door, 'label', label))
            from (select * from standing limit 100) as first), '[]')));
end
$$;

-- In: device, ticket. Idempotent; a foreign ticket is ignored.
create or replace function voicemeet.leave(p jsonb)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
    s voicemeet.settings;
    v_now constant timestamptz := clock_timestamp();
    v_pool text;
    refused jsonb;
begin
    select * into strict s from voicemeet.settings;
    refused := voicemeet.too_fast('device ' || (p->>'device'), s.device_per_s, s.device_burst, v_now);
    if refused is not null then
        return refused;
    end if;
    perform pg_advisory_xact_lock(1, hashtext(p->>'device'));
    select pool into v_pool from voicemeet.tickets
        where ticket = p->>'ticket' and device = p->>'device' and role = 'caller' and call_id is null;
    return jsonb_build_object('ok', true, 'wake', jsonb_build_array(
        voicemeet.withdraw(p->>'device', p->>'ticket', v_now)) || coalesce(voicemeet.desks_off(v_pool), '[]'));
end
$$;

-- In: call_id, slot, grant ({"expires_at": unix s, "ice_servers": [...]}). The first grant of a slot that
-- lasts is kept; whoever comes second gets that one back and takes its own back at the provider.
create or replace function voicemeet.keep_grant(p jsonb)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
    c voicemeet.calls;
    kept jsonb;
begin
    select * into c from voicemeet.calls where call_id = p->>'call_id' for update;
    if not found then
        return jsonb_build_object('grant', p->'grant');
    end if;
    kept := case p->>'slot' when 'a' then c.grant_a else c.grant_b end;
    if kept is not null and (kept->>'expires_at')::float8 >= (p->'grant'->>'expires_at')::float8 - 1 then
        return jsonb_build_object('grant', kept);
    end if;
    update voicemeet.calls set
        grant_a = case p->>'slot' when 'a' then p->'grant' else grant_a end,
        grant_b = case p->>'slot' when 'b' then p->'grant' else grant_b end
        where call_id = c.call_id;
    return jsonb_build_object('grant', p->'grant', 'replaced', kept);
end
$$;

-- In: call_id, slot. The function itself knows from the token until when the call may last.
create or replace function voicemeet.renew(p jsonb)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
    s voicemeet.settings;
    c voicemeet.calls;
    refused jsonb;
begin
    select * into strict s from voicemeet.settings;
    refused := voicemeet.too_fast('call ' || (p->>'call_id') || ' ' || (p->>'slot'),
                                  s.device_per_s, s.device_burst, clock_timestamp());
    if refused is not null then
        return refused;
    end if;
    select * into c from voicemeet.calls where call_id = p->>'call_id';
    if found and (case p->>'slot' when 'a' then c.ended_a else c.ended_b end) is not null then
        return jsonb_build_object('error', 'call_over');
    end if;
    -- A call that is not known any more (the database crashed) is believed: its token was good.
    return jsonb_build_object('grant', case p->>'slot' when 'a' then c.grant_a else c.grant_b end,
                              'heard', coalesce(c.heard, true));
end
$$;

-- In: call_id, slot, seconds. Counted once per call; gives back the credentials to revoke.
create or replace function voicemeet.ended(p jsonb)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
    s voicemeet.settings;
    c voicemeet.calls;
    v_now constant timestamptz := clock_timestamp();
    refused jsonb;
    counts boolean;
begin
    select * into strict s from voicemeet.settings;
    refused := voicemeet.too_fast('call ' || (p->>'call_id') || ' ' || (p->>'slot'),
                                  s.device_per_s, s.device_burst, v_now);
    if refused is not null then
        return refused;
    end if;
    select * into c from voicemeet.calls where call_id = p->>'call_id' for update;
    if found then
        counts := c.ended_a is null and c.ended_b is null;
        update voicemeet.calls set
            ended_a = case p->>'slot' when 'a' then coalesce(ended_a, v_now) else ended_a end,
            ended_b = case p->>'slot' when 'b' then coalesce(ended_b, v_now) else ended_b end,
            grant_a = case p->>'slot' when 'b' then grant_a end,
            grant_b = case p->>'slot' when 'a' then grant_b end
            where call_id = c.call_id;
    else
        -- After a crash of the database no call is known: then slot a alone speaks for both.
        counts := p->>'slot' = 'a';
    end if;
    if counts then
        insert into voicemeet.call_hours as h values (
            date_trunc('hour', v_now), 1, least(
                greatest((p->>'seconds')::bigint, 0), s.max_call_s::bigint,
                ceil(extract(epoch from v_now - c.matched_at))::bigint))
            on conflict (hour) do update set calls = h.calls + 1, seconds = h.seconds + excluded.seconds;
    end if;
    return jsonb_build_object('ok', true, 'revoke', case p->>'slot' when 'a' then c.grant_a else c.grant_b end);
end
$$;

-- Take note that something was counted; false when it was within a day.
create or replace function voicemeet.counts_today(p_key text, p_now timestamptz)
returns boolean language sql as $$
    with noted as (
        insert into voicemeet.counted as c values (p_key, p_now)
        on conflict (key) do update set at = p_now where c.at < p_now - interval '1 day' returning 1)
    select exists (select from noted);
$$;

-- In: call_id, slot, reason, receipt, address (a hash, or null). Kept for the operator in any case. It raises
-- a score only between strangers who both heard of the call, some seconds into it, and once a day for a pair
-- and for an address.
create or replace function voicemeet.report(p jsonb)
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
    s voicemeet.settings;
    c voicemeet.calls;
    v_now constant timestamptz := clock_timestamp();
    refused jsonb;
    reporter text;
    reported text;
    rotation integer := 0;
begin
    if exists (select from voicemeet.reports where receipt = p->>'receipt') then
        return jsonb_build_object('receipt', p->>'receipt');
    end if;
    select * into strict s from voicemeet.settings;
    select * into c from voicemeet.calls where call_id = p->>'call_id';
    reporter := coalesce(case p->>'slot' when 'a' then c.device_a else c.device_b end,
                         (p->>'call_id') || ' ' || (p->>'slot'));
    reported := case p->>'slot' when 'a' then c.device_b else c.device_a end;
    refused := voicemeet.too_fast('report ' || reporter, s.report_per_s, s.report_burst, v_now);
    if refused is not null then
        return refused;
    end if;
    insert into voicemeet.reports (receipt, reported, reason, at)
        values (p->>'receipt', reported, p->>'reason', v_now) on conflict do nothing;
    if not found or reported is null or not c.strangers or not c.heard
            or v_now < c.matched_at + make_interval(secs => s.report_after_s)
            or not voicemeet.counts_today('pair ' || reporter || ' ' || reported, v_now)
            or (p->>'address' is not null and not voicemeet.counts_today(
                'from ' || (p->>'address') || ' ' || reported, v_now)) then
        return jsonb_build_object('receipt', p->>'receipt');
    end if;
    -- The tokens this one was rotated to inherit the rise; nobody honest rotates more often than this.
    while reported is not null and rotation < 4 loop
        insert into voicemeet.scores as k values (reported, s.report_weight, v_now)
            on conflict (device) do update set
                value = k.value * 0.5 ^ (greatest(0, extract(epoch from v_now - k.at)) / s.half_life_s)
                        + s.report_weight,
                at = v_now;
        reported := (select next from voicemeet.successors where device = reported);
        rotation := rotation + 1;
    end loop;
    return jsonb_build_object('receipt', p->>'receipt');
end
$$;

-- The function's own pulse: whether the database answers, and how new it is.
create or replace function voicemeet.health()
returns jsonb language sql stable security definer set search_path = '' as $$
    select jsonb_build_object('ok', true);
$$;

revoke execute on all functions in schema voicemeet from public;
grant execute on function
    voicemeet.session(jsonb), voicemeet.match(jsonb), voicemeet.doors(jsonb), voicemeet.leave(jsonb), voicemeet.keep_grant(jsonb),
    voicemeet.renew(jsonb), voicemeet.ended(jsonb), voicemeet.report(jsonb), voicemeet.health()
    to voicemeet_function;
