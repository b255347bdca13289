-- What an operator does by hand, in the dashboard's SQL editor or with psql. One rule: a pass and a key are
-- shown once or never; what is kept opens nothing.

-- Make a pool, or change whether it is open.
create or replace function voicemeet.set_pool(p_name text, p_is_open boolean default false)
returns text language sql security definer set search_path = '' as $$
    insert into voicemeet.pools (name, is_open) values (p_name, p_is_open)
        on conflict (name) do update set is_open = excluded.is_open
        returning name || case when is_open then ': open' else ': closed' end;
$$;

-- Make a pass of 130 random bits in Crockford's base32; this is the only time it is seen.
create or replace function voicemeet.make_pass(p_pool text, p_role text, p_label text default '')
returns text language plpgsql security definer set search_path = '' as $$
declare
    letters constant text := '0123456789abcdefghjkmnpqrstvwxyz';
    -- Two UUIDs have 244 random bits; their fixed digits are washed out by the hash.
    bits constant bytea := sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
    pass text := '';
begin
    for place in 0..25 loop
        pass := pass || substr(letters, 1 + (get_byte(bits, place) & 31), 1);
    end loop;
    insert into voicemeet.passes (hash, pool, role, label) values (
        encode(sha256(convert_to(E'voicemeet-edge v1 pass\n' || pass, 'UTF8')), 'hex'), p_pool, p_role, p_label);
    return trim(trailing '-' from upper(regexp_replace(pass, '(.{5})', '\1-', 'g')));
end
$$;

-- Take passes back, by label or by the first digits of the hash; returns how many.
create or replace function voicemeet.revoke_pass(p_label_or_hash text)
returns bigint language sql security definer set search_path = '' as $$
    with revoked as (
        update voicemeet.passes set revoked_at = now()
        where revoked_at is null and (label = p_label_or_hash
            or (length(p_label_or_hash) >= 8 and starts_with(hash, lower(p_label_or_hash))))
        returning 1)
    select count(*) from revoked;
$$;

create or replace function voicemeet.list_passes()
returns table (short text, pool text, role text, label text, made_at timestamptz, revoked_at timestamptz)
language sql stable security definer set search_path = '' as $$
    select left(hash, 16), pool, role, label, made_at, revoked_at from voicemeet.passes order by made_at;
$$;

-- Set the admission keys of a pool (none to two, base64url as the installer prints them).
create or replace function voicemeet.set_admission_keys(p_pool text, p_keys text[])
returns text language plpgsql security definer set search_path = '' as $$
declare
    key text;
    raw bytea;
    pads bytea;
    kept bytea[] := '{}';
begin
    foreach key in array p_keys loop
        if key !~ '^[A-Za-z0-9_-]{43}$' then
            -- Not `raise`: that would write the statement, and so the key, into the log.
            return 'nothing changed: an admission key has 43 characters of base64url';
        end if;
        raw := decode(translate(key, '-_', '+/') || '=', 'base64');
        pads := decode(repeat('36', 64) || repeat('5c', 64), 'hex');
        for place in 0..31 loop
            pads := set_byte(pads, place, get_byte(pads, place) # get_byte(raw, place));
            pads := set_byte(pads, 64 + place, get_byte(pads, 64 + place) # get_byte(raw, place));
        end loop;
        kept := kept || pads;
    end loop;
    update voicemeet.pools set admission_keys = kept where name = p_pool;
    if not found then
        return 'nothing changed: there is no such pool (select voicemeet.set_pool(name))';
    end if;
    return cardinality(kept) || ' admission keys set';
end
$$;

-- Reports as a person reads them, newest first.
create or replace function voicemeet.list_reports()
returns table (receipt text, filed timestamptz, reason text, about text, held boolean)
language sql stable security definer set search_path = '' as $$
    select receipt, at, reason, left(reported, 12), held from voicemeet.reports order by at desc;
$$;

revoke execute on all functions in schema voicemeet from public;
