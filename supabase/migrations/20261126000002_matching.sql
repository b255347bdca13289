-- Matching: who talks to whom. One rule: nobody is ever in two calls, whatever runs at the same time.
--
-- Every verb is one function that takes and returns one jsonb object, so that an older and a newer version
-- of the Edge Function can ask at the same time: unknown keys are ignored, missing ones have a default.
-- Refusals are return values ({"error": code, ...}): `raise` would put the values into the server's log.
--
-- Locks are always taken in this order: device (advisory) → one's own row, and the desks that it rings, by
-- ticket → others' rows (skipping locked ones) → pool (advisory). So there is no cycle.

-- The helpers here are called by the verbs only, inside their definer's rights and empty search_path;
-- they have neither of their own, because both cost time at every call.

-- Take one token of a bucket; returns null, or the verb's refusal with the seconds until there is one. One
-- statement, so two at once never take the same token; PL/pgSQL, because a function in plain SQL is planned
-- anew at every call.
create or replace function voicemeet.too_fast(p_key text, p_per_s real, p_burst real, p_now timestamptz)
returns jsonb language plpgsql as $$
declare
    token constant interval := make_interval(secs => 1 / greatest(p_per_s, 1e-6));
    -- What may be missing for there still to be one.
    missing constant interval := (p_burst - 1) * token;
    free_at timestamptz;
begin
    insert into voicemeet.buckets as b values (p_key, p_now + token)
    on conflict (key) do update set full_at = least(greatest(b.full_at, p_now), p_now + missing) + token
        -- More than all cannot be missing: then the clock went back, or the limit was made smaller.
        where b.full_at <= p_now + missing or b.full_at > p_now + missing + token;
    if found then
        return null;
    end if;
    select full_at - missing into free_at from voicemeet.buckets where key = p_key;
    return jsonb_build_object('error', 'too_fast', 'retry_after_s',
                              round(greatest(0, extract(epoch from free_at - p_now)) + 0.05, 1));
end
$$;

-- What time has left of a score. One report weighs `report_weight`; it halves every `half_life_s`.
create or replace function voicemeet.score(p_device text, p_now timestamptz, p_half_life_s real)
returns double precision language plpgsql stable as $$
declare
    k voicemeet.scores;
begin
    select * into k from voicemeet.scores where device = p_device;
    if not found then
        return 0;
    end if;
    return k.value * 0.5 ^ (greatest(0, date_part('epoch', p_now - k.at)) / p_half_life_s);
end
$$;

-- When a waiting ticket of this role is asked about again, in seconds.
create or replace function voicemeet.poll_s(s voicemeet.settings, p_role text)
returns real language sql immutable as $$
    select case when p_role in ('answerer', 'busy', 'away') then s.answerer_poll_s
                when p_role = 'door' then s.door_poll_s else s.poll_after_s end;
$$;

-- How long a waiting ticket of this role is remembered without being asked about.
create or replace function voicemeet.forgotten_after(s voicemeet.settings, p_role text)
returns interval language sql immutable as $$
    select make_interval(secs => greatest(20, 3 * voicemeet.poll_s(s, p_role)));
$$;

create or replace function voicemeet.is_stale(s voicemeet.settings, t voicemeet.tickets, p_now timestamptz)
returns boolean language sql stable as $$
    select case when t.call_id is null then t.seen < p_now - voicemeet.forgotten_after(s, t.role)
                else t.kept_until <= p_now end;
$$;

-- The row of a ticket, locked; null where there is none, or none any more.
create or replace function voicemeet.own_ticket(s voicemeet.settings, p_ticket text, p_now timestamptz)
returns voicemeet.tickets language plpgsql as $$
declare
    mine voicemeet.tickets;
begin
    select * into mine from voicemeet.tickets where ticket = p_ticket for update;
    if found and voicemeet.is_stale(s, mine, p_now) then
        delete from voicemeet.legs where ticket = p_ticket;
        delete from voicemeet.tickets where ticket = p_ticket;
        return null;
    end if;
    return mine;
end
$$;

-- Let the desks of a ringing ticket that have not heard of their call wait on, first in line. They were pushed
-- when they were found, so they ask by themselves.
create or replace function voicemeet.free_desks(p_ticket text, p_now timestamptz)
returns void language plpgsql as $$
declare
    leg voicemeet.legs;
begin
    for leg in select * from voicemeet.legs where ticket = p_ticket order by desk loop
        update voicemeet.tickets t set
            call_id = null, slot = null, partner = null, peer_role = null, kept_until = null, seen = p_now,
            since = t.since - interval '1 second'
            where t.ticket = leg.desk and t.call_id = leg.call_id and not t.collected;
        if found then
            delete from voicemeet.calls where call_id = leg.call_id;
        end if;
    end loop;
end
$$;

-- Give a ticket up. A partner who has not heard of the match goes back to waiting, first in line.
-- Returns the ticket to wake: that partner, who then asks again and may meet somebody else at once.
create or replace function voicemeet.withdraw(
    p_device text, p_ticket text, p_now timestamptz, p_keep_heard boolean default false)
returns text language plpgsql as $$
declare
    mine voicemeet.tickets;
    other voicemeet.tickets;
begin
    -- Only one's own row is ever waited for, so two partners cannot block each other.
    select * into mine from voicemeet.tickets where ticket = p_ticket and device = p_device for update;
    if not found then
        return null;
    end if;
    if mine.rings then
        perform voicemeet.free_desks(p_ticket, p_now);
        delete from voicemeet.legs where ticket = p_ticket;
    elsif mine.call_id is not null then
        if mine.role = 'answerer' then
            -- A ringing caller that has not heard of this desk never will.
            delete from voicemeet.legs where call_id = mine.call_id and not collected;
        end if;
        -- Whoever holds the partner's row is hearing of the match or leaving: either way it is his.
        select * into other from voicemeet.tickets
            where ticket = mine.partner and call_id = mine.call_id for update skip locked;
        if found and not other.collected and other.kept_until > p_now and not (p_keep_heard and mine.collected) then
            delete from voicemeet.calls where call_id = mine.call_id;
            update voicemeet.tickets t set
                call_id = null, slot = null, partner = null, peer_role = null, kept_until = null, seen = p_now,
                since = least(t.since, (
                    select min(w.since) - interval '1 microsecond' from voicemeet.tickets w
                    where w.pool = t.pool and w.flagged = t.flagged and w.role = t.role and w.call_id is null))
                where ticket = other.ticket;
            delete from voicemeet.tickets where ticket = p_ticket;
            return other.ticket;
        end if;
    end if;
    delete from voicemeet.tickets where ticket = p_ticket;
    return null;
end
$$;

-- Put two parties into one call and return the asking one's row as it now stands.
create or replace function voicemeet.pair(
    s voicemeet.settings, mine voicemeet.tickets, other voicemeet.tickets, p_is_new boolean,
    p_is_open boolean, p_call_id text, p_now timestamptz)
returns voicemeet.tickets language plpgsql as $$
begin
    mine.call_id := p_call_id;
    -- The caller offers; between two of the same role the call id's last digit is the coin.
    mine.slot := case when mine.role in ('caller', 'door') then 'a' when mine.role = 'answerer' then 'b'
                      when right(p_call_id, 1) < '8' then 'a' else 'b' end;
    mine.partner := other.ticket;
    mine.peer_role := case other.role when 'door' then 'caller' else other.role end;
    mine.collected := true;
    mine.seen := p_now;
    mine.kept_until := p_now + make_interval(secs => s.kept_match_s);
    if mine.rings then
        insert into voicemeet.legs values (p_call_id, mine.ticket, other.device, other.ticket, mine.kept_until);
    elsif p_is_new then
        insert into voicemeet.tickets values (mine.*) on conflict (ticket) do nothing;
        if not found then
            return null;
        end if;
    else
        update voicemeet.tickets set call_id = mine.call_id, slot = mine.slot, partner = mine.partner,
            peer_role = mine.peer_role, collected = true, seen = p_now, kept_until = mine.kept_until
            where ticket = mine.ticket;
    end if;
    if other.rings then
        insert into voicemeet.legs values (p_call_id, other.ticket, mine.device, mine.ticket, mine.kept_until);
    else
        update voicemeet.tickets set call_id = p_call_id, slot = case mine.slot when 'a' then 'b' else 'a' end,
                partner = mine.ticket, peer_role = mine.role, collected = false, kept_until = mine.kept_until
            where ticket = other.ticket;
    end if;
    insert into voicemeet.calls (call_id, device_a, device_b, strangers, matched_at, until) values (
        p_call_id,
        case mine.slot when 'a' then mine.device else other.device end,
        case mine.slot when 'a' then other.device else mine.device end,
        p_is_open and mine.role = 'either', p_now, p_now + make_interval(secs => s.max_call_s));
    if mine.role = 'either' and s.avoid_repeat_s > 0 then
        insert into voicemeet.acquaintances values
            (mine.device, other.device, p_now + make_interval(secs => s.avoid_repeat_s)),
            (other.device, mine.device, p_now + make_interval(secs => s.avoid_repeat_s))
            on conflict (device, partner) do update set until = excluded.until;
        -- With more than eight a small pool would have nobody left to meet. Counted first: most have fewer.
        if (select count(*) from voicemeet.acquaintances where device in (mine.device, other.device)) > 8 then
            delete from voicemeet.acquaintances a using (
                select device, partner, row_number() over (partition by device order by until desc) as place
                from voicemeet.acquaintances where device in (mine.device, other.device)) as ranked
                where a.device = ranked.device and a.partner = ranked.partner and ranked.place > 8;
        end if;
    end if;
    return mine;
end
$$;

-- The answer for a matched ticket.
create or replace function voicemeet.matched_answer(p_row voicemeet.tickets)
returns jsonb language plpgsql stable as $$
declare
    c voicemeet.calls;
begin
    select * into c from voicemeet.calls where call_id = p_row.call_id;
    if not found or (case p_row.slot when 'a' then c.ended_a else c.ended_b end) is not null then
        return jsonb_build_object('error', 'call_over');
    end if;
    return jsonb_build_object('status', 'matched', 'call_id', p_row.call_id, 'slot', p_row.slot,
        'peer_role', p_row.peer_role, 'until', extract(epoch from c.until),
        'grant', case p_row.slot when 'a' then c.grant_a else c.grant_b end);
end
$$;

-- 128 random bits for a call beyond the one that the function sends with each question.
create or replace function voicemeet.new_call_id() returns text language sql volatile as $$
    select left(encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'hex'), 32);
$$;

-- The desks of a pool that take no call just now: to be told that the line has changed.
create or replace function voicemeet.desks_off(p_pool text)
returns jsonb language plpgsql stable as $$
begin
    -- PL/pgSQL, because a function in plain SQL is planned anew at every call.
    return (select coalesce(jsonb_agg(ticket), '[]') from (
        select ticket from voicemeet.tickets
        where pool = p_pool and not flagged and role in ('busy', 'away') and call_id is null limit 24) as off);
end
$$;

-- What a waiting desk of a closed pool hears besides: callers it has not rung for, and doors on line.
create or replace function voicemeet.around(s voicemeet.settings, p_pool text, p_device text, p_now timestamptz)
returns jsonb language sql stable as $$
    select jsonb_build_object(
        'callers', (select count(*) from (select from voicemeet.tickets t
            where t.pool = p_pool and not t.flagged and t.role = 'caller' and t.call_id is null
                and t.seen >= p_now - voicemeet.forgotten_after(s, 'caller')
                and not exists (select from voicemeet.legs l where l.ticket = t.ticket and l.device = p_device)
            limit 100) as waiting),
        'doors', (select count(*) from voicemeet.tickets t
            where t.pool = p_pool and not t.flagged and t.role = 'door' and t.call_id is null
                and t.seen >= p_now - voicemeet.forgotten_after(s, 'door')));
$$;

-- Whether a stranger's address has all the searches it may have.
create or replace function voicemeet.has_too_many(s voicemeet.settings, p_address text)
returns boolean language plpgsql stable as $$
begin
    return (select count(*) from (select from voicemeet.tickets t where t.address = p_address
        limit s.address_searches) as theirs) >= s.address_searches;
end
$$;

-- Whether there is no place for one more who waits. Counted by sampling where the limit is high: about a
-- thousand index entries per request on average.
create or replace function voicemeet.is_full(s voicemeet.settings, p_pool text)
returns boolean language plpgsql volatile as $$
begin
    if s.max_waiting > 1000 and random() >= 1000.0 / s.max_waiting then
        return false;
    end if;
    return (select count(*) from (select from voicemeet.tickets t
        where t.pool = p_pool and t.call_id is null and t.role <> 'door'
        limit s.max_waiting) as waiting) >= s.max_waiting;
end
$$;

-- Ring all free desks, or ask how it stands. In: as `search`, and again (ids of calls whose desks may ring again).
create or replace function voicemeet.ring(
    s voicemeet.settings, p_is_open boolean, p jsonb, p_now timestamptz)
returns jsonb language plpgsql as $$
declare
    v_device constant text := p->>'device';
    v_ticket constant text := p->>'ticket';
    v_pool constant text := p->>'pool';
    mine voicemeet.tickets;
    other voicemeet.tickets;
    earlier text;
    woken jsonb := '[]';
    answer jsonb;
begin
    perform pg_advisory_xact_lock(1, hashtext(v_device));
    mine := voicemeet.own_ticket(s, v_ticket, p_now);
    if mine.ticket is null then
        select ticket into earlier from voicemeet.tickets where device = v_device;
        if found then
            woken := jsonb_build_array(voicemeet.withdraw(v_device, earlier, p_now, p_keep_heard => true));
        end if;
        if p_is_open and p->>'address' is not null and voicemeet.has_too_many(s, p->>'address') then
            return jsonb_build_object('error', 'too_many_calls', 'retry_after_s', 10, 'wake', woken);
        end if;
        if voicemeet.is_full(s, v_pool) then
            return jsonb_build_object('error', 'pool_full', 'retry_after_s', 10, 'wake', woken);
        end if;
        insert into voicemeet.tickets (ticket, device, pool, role, flagged, since, seen, address, rings)
            values (v_ticket, v_device, v_pool, 'caller', false, p_now, p_now,
                    case when p_is_open then p->>'address' end, true)
            on conflict (ticket) do nothing returning * into mine;
        if mine.ticket is null then
            return jsonb_build_object('error', 'ticket_taken', 'wake', woken);
        end if;
        woken := woken || voicemeet.desks_off(v_pool);
    elsif mine.device <> v_device or mine.pool <> v_pool or not mine.rings then
        return jsonb_build_object('error', 'ticket_taken');
    else
        update voicemeet.tickets set seen = p_now where ticket = v_ticket;
    end if;
    delete from voicemeet.legs where ticket = v_ticket
        and call_id in (select jsonb_array_elements_text(coalesce(p->'again', '[]')));

    -- Whoever comes second through this lock sees what the first has written (as in `search`).
    perform pg_advisory_xact_lock(2, hashtext(v_pool));
    for other in select * from voicemeet.tickets t
            where t.pool = v_pool and not t.flagged and t.role = 'answerer' and t.call_id is null
                and t.seen >= p_now - voicemeet.forgotten_after(s, 'answerer')
                and not exists (select from voicemeet.legs l where l.ticket = v_ticket and l.device = t.device)
            order by t.since
            limit 24 - (select count(*) from voicemeet.legs l where l.ticket = v_ticket)
            for update skip locked loop
        perform voicemeet.pair(s, mine, other, false, p_is_open, voicemeet.new_call_id(), p_now);
        woken := woken || to_jsonb(other.ticket);
    end loop;

    -- Where the desk has heard too, both have now.
    update voicemeet.calls c set heard = true from voicemeet.legs l
        left join voicemeet.tickets t on t.ticket = l.desk
        where l.ticket = v_ticket and not l.collected and c.call_id = l.call_id
            and (t.collected or t.call_id is distinct from l.call_id);
    update voicemeet.legs set collected = true where ticket = v_ticket and not collected;
    select jsonb_build_object('status', 'ringing', 'wake', woken, 'poll_after_s', s.poll_after_s,
        'calls', coalesce(jsonb_agg(jsonb_build_object('call_id', l.call_id, 'slot', 'a',
            'peer_role', 'answerer', 'until', extract(epoch from c.until), 'grant', c.grant_a)), '[]'))
        into answer
        from voicemeet.legs l join voicemeet.calls c on c.call_id = l.call_id
        where l.ticket = v_ticket and l.kept_until > p_now and c.ended_a is null;
    if p_is_open then
        return answer;
    end if;
    return answer || jsonb_build_object(
        'place', (select count(*) from (select from voicemeet.tickets t
            where t.pool = v_pool and not t.flagged and t.role = 'caller' and t.call_id is null
                and t.seen >= p_now - voicemeet.forgotten_after(s, 'caller')
                and t.since < mine.since limit 99) as ahead) + 1,
        'desks', (select jsonb_build_object('busy', count(*) filter (where role = 'busy'),
                                            'away', count(*) filter (where role = 'away'))
            from voicemeet.tickets t
            where t.pool = v_pool and not t.flagged and t.role in ('busy', 'away') and t.call_id is null
                and t.seen >= p_now - voicemeet.forgotten_after(s, t.role)
                and not exists (select from voicemeet.legs l where l.ticket = v_ticket and l.device = t.device)));
end
$$;

-- Whom a party of this role meets: the row of who waits longest, locked, or null. Rows that somebody else has in
-- hand are passed over.
create or replace function voicemeet.first_in_line(
    s voicemeet.settings, mine voicemeet.tickets, p_now timestamptz)
returns voicemeet.tickets language plpgsql as $$
declare
    wanted constant text := case mine.role when 'caller' then 'answerer' when 'answerer' then 'caller'
                                           else 'either' end;
    -- Forgotten after three polls that did not come, 20 s at least.
    alive_since constant timestamptz := p_now - voicemeet.forgotten_after(s, wanted);
    other voicemeet.tickets;
begin
    if mine.role <> 'either' then
        -- An intercom always meets the same desk: only strangers are kept apart. One that rings has met it.
        select * into other from voicemeet.tickets t
            where t.pool = mine.pool and t.flagged = mine.flagged and t.role = wanted and t.call_id is null
                and t.seen >= alive_since and t.device <> mine.device
                and not (t.rings and (
                    exists (select from voicemeet.legs l where l.ticket = t.ticket and l.device = mine.device)
                    or (select count(*) from voicemeet.legs l where l.ticket = t.ticket) >= 24))
            order by t.since limit 1 for update skip locked;
        return other;
    end if;
    select * into other from voicemeet.tickets t
        where t.pool = mine.pool and t.flagged = mine.flagged and t.role = wanted and t.call_id is null
            and t.seen >= alive_since and t.device <> mine.device
            and not exists (select from voicemeet.acquaintances a
                            where a.device = mine.device and a.partner = t.device and a.until > p_now)
        order by t.since limit 1 for update skip locked;
    if not found then
        -- Nobody new: one of those met lately, once either of the two has waited for a while.
        select * into other from voicemeet.tickets t
            where t.pool = mine.pool and t.flagged = mine.flagged and t.role = wanted and t.call_id is null
                and t.seen >= alive_since and t.device <> mine.device
                and least(t.since, mine.since) <= p_now - make_interval(secs => s.repeat_after_s)
            order by t.since limit 1 for update skip locked;
    end if;
    return other;
end
$$;

-- Start a search or ask how it stands.
-- In: device, ticket, pool, role, call_id (fresh random bits, used when a call is made), state (of a desk),
-- label (of a door that stands by), door (that a desk calls).
-- Admission was looked at before.
create or replace function voicemeet.search(
    s voicemeet.settings, p_is_open boolean, p jsonb, p_now timestamptz)
returns jsonb language plpgsql as $$
declare
    -- A device searches once, and stands by once beside it.
    v_device constant text := (p->>'device') || case when p->>'label' is null then '' else ' stands by' end;
    v_ticket constant text := p->>'ticket';
    v_pool constant text := p->>'pool';
    v_role constant text := case when p->>'label' is not null then 'door'
                                 when p->>'state' in ('busy', 'away') then p->>'state' else p->>'role' end;
    v_flagged boolean := false;
    v_score double precision;
    mine voicemeet.tickets;
    other voicemeet.tickets;
    is_new boolean := false;
    earlier text;
    wake text;
    told jsonb := '[]';                                 -- desks that hear how many wait
begin
    -- Two requests of one device queue up.
    perform pg_advisory_xact_lock(1, hashtext(v_device));
    if p_is_open and v_role = 'either' then
        -- Scores are about strangers: no desk and no enrolled device is cut off by one.
        v_score := voicemeet.score(v_device, p_now, s.half_life_s);
        if v_score >= s.refuse_at then
            wake := voicemeet.withdraw(v_device, v_ticket, p_now);
            return jsonb_build_object('error', 'refused_risk', 'wake', jsonb_build_array(wake));
        end if;
        v_flagged := v_score >= s.separate_at;
    end if;

    mine := voicemeet.own_ticket(s, v_ticket, p_now);
    if mine.ticket is null then
        select ticket into earlier from voicemeet.tickets where device = v_device;
        if found then
            -- A device has one search: a new ticket means that it gave the earlier one up. A call that it has
            -- heard of is not part of that: callers who come and say nothing must not keep it from others.
            wake := voicemeet.withdraw(v_device, earlier, p_now, p_keep_heard => true);
        end if;
        is_new := true;
        if p_is_open and p->>'address' is not null then
            mine.address := p->>'address';
            if voicemeet.has_too_many(s, mine.address) then
                return jsonb_build_object('error', 'too_many_calls', 'retry_after_s', 10,
                                          'wake', jsonb_build_array(wake));
            end if;
        end if;
        mine.ticket := v_ticket;
        mine.device := v_device;
        mine.pool := v_pool;
        mine.role := v_role;
        mine.flagged := v_flagged;
        mine.since := p_now;
        mine.seen := p_now;
        mine.collected := false;
        mine.rings := false;
        if v_role = 'door' then
            mine.label := p->>'label';
            mine.door := left(encode(sha256(convert_to(E'door\n' || (p->>'device'), 'UTF8')), 'hex'), 32);
        elsif v_role = 'caller' then
            told := voicemeet.desks_off(v_pool);
        end if;
    elsif mine.device <> v_device or mine.pool <> v_pool or mine.rings
            or (mine.role <> v_role and not (mine.role in ('answerer', 'busy', 'away')
                                             and v_role in ('answerer', 'busy', 'away'))) then
        return jsonb_build_object('error', 'ticket_taken');
    elsif mine.call_id is not null then
        if not mine.collected then
            -- The other side asked when the match was made: now both have heard of it.
            update voicemeet.tickets set collected = true where ticket = v_ticket;
            update voicemeet.calls set heard = true where call_id = mine.call_id;
        end if;
        return voicemeet.matched_answer(mine);
    elsif (mine.flagged, mine.role) <> (v_flagged, v_role) then
        update voicemeet.tickets set flagged = v_flagged, role = v_role where ticket = v_ticket;
        mine.flagged := v_flagged;
        mine.role := v_role;
    end if;

    if p->>'door' is not null then
        select * into other from voicemeet.tickets t
            where t.door = p->>'door' and t.pool = v_pool and t.role = 'door' and t.call_id is null
                and t.seen >= p_now - voicemeet.forgotten_after(s, 'door')
            limit 1 for update skip locked;
        if not found then
            return jsonb_build_object('error', 'door_away', 'wake', jsonb_build_array(wake));
        end if;
    end if;

    if other.ticket is null and v_role not in ('busy', 'away', 'door') then
        other := voicemeet.first_in_line(s, mine, p_now);
        if other.ticket is null then
            -- SKIP LOCKED alone would leave two who arrive at the same moment waiting for each other: whoever
            -- comes second through this lock sees what the first has written.
            -- Answerers do not look for each other, so among themselves they share it.
            if v_role = 'answerer' then
                perform pg_advisory_xact_lock_shared(2, hashtext(v_pool));
            else
                perform pg_advisory_xact_lock(2, hashtext(v_pool));
            end if;
            other := voicemeet.first_in_line(s, mine, p_now);
        end if;
    end if;
    if other.ticket is not null then
        mine := voicemeet.pair(s, mine, other, is_new, p_is_open, p->>'call_id', p_now);
        if mine.ticket is null then
            return jsonb_build_object('error', 'ticket_taken', 'wake', jsonb_build_array(wake));
        end if;
        return jsonb_build_object('status', 'matched', 'call_id', mine.call_id, 'slot', mine.slot,
            'peer_role', mine.peer_role, 'until', extract(epoch from p_now) + s.max_call_s,
            'wake', jsonb_build_array(other.ticket, wake));
    end if;
    if is_new then
        if v_role <> 'door' and voicemeet.is_full(s, v_pool) then
            return jsonb_build_object('error', 'pool_full', 'retry_after_s', 10, 'wake', jsonb_build_array(wake));
        end if;
        insert into voicemeet.tickets values (mine.*) on conflict (ticket) do nothing;
        if not found then
            -- Another device came with the same ticket in this very moment.
            return jsonb_build_object('error', 'ticket_taken', 'wake', jsonb_build_array(wake));
        end if;
    elsif mine.seen < p_now - interval '2 seconds' then
        update voicemeet.tickets set seen = p_now where ticket = v_ticket;
    end if;
    return jsonb_build_object('status', 'waiting', 'poll_after_s', voicemeet.poll_s(s, v_role),
        'separated', v_flagged, 'wake', jsonb_build_array(wake) || told)
        || case when not p_is_open and v_role in ('answerer', 'busy', 'away')
                then voicemeet.around(s, v_pool, v_device, p_now) else '{}' end;
end
$$;

revoke execute on all functions in schema voicemeet from public;
