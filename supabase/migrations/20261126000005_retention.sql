-- What is forgotten, and when. One rule: no rule of matching depends on this job; it only tidies.

create or replace function voicemeet.purge()
returns jsonb language plpgsql security definer set search_path = '' as $$
declare
    s voicemeet.settings;
    v_now constant timestamptz := clock_timestamp();
    gone_tickets bigint;
    gone_reports bigint;
begin
    select * into strict s from voicemeet.settings;
    -- Rows somebody is using right now are left for the next round: a purge never makes a caller wait.
    delete from voicemeet.tickets where ticket in (
        select ticket from voicemeet.tickets t where voicemeet.is_stale(s, t, v_now) for update skip locked);
    get diagnostics gone_tickets = row_count;
    delete from voicemeet.legs l where not exists (select from voicemeet.tickets t where t.ticket = l.ticket);
    -- A call is kept for its reports: an hour after its last token could have expired.
    delete from voicemeet.calls where until < v_now - interval '70 minutes';
    delete from voicemeet.acquaintances where until <= v_now;
    delete from voicemeet.buckets where full_at < v_now - interval '1 hour';
    delete from voicemeet.counted where at < v_now - interval '1 day';
    delete from voicemeet.successors where at < v_now - interval '8 days';
    delete from voicemeet.scores
        where value * 0.5 ^ (greatest(0, extract(epoch from v_now - at)) / s.half_life_s) < 0.02;
    delete from voicemeet.reports
        where not held and at < v_now - make_interval(secs => s.report_days * 86400);
    get diagnostics gone_reports = row_count;
    return jsonb_build_object('tickets', gone_tickets, 'reports', gone_reports);
end
$$;

-- For the person who looks into reports: held ones are kept beyond their days.
create or replace function voicemeet.hold(p_receipt text, p_held boolean default true)
returns boolean language sql security definer set search_path = '' as $$
    with changed as (update voicemeet.reports set held = p_held where receipt = p_receipt returning 1)
    select exists (select from changed);
$$;

revoke execute on all functions in schema voicemeet from public;

-- The clock that calls it, where the platform has one.
do $$
begin
    if exists (select from pg_available_extensions where name = 'pg_cron') then
        create extension if not exists pg_cron;
        perform cron.schedule('voicemeet-purge', '* * * * *', 'select voicemeet.purge()');
        perform cron.schedule('voicemeet-cron-log', '17 3 * * *',
            $job$delete from cron.job_run_details where end_time < now() - interval '3 days'$job$);
    else
        raise notice 'pg_cron is not available: call voicemeet.purge() every minute by other means';
    end if;
exception when others then
    raise notice 'pg_cron could not be set up: call voicemeet.purge() every minute by other means';
end
$$;
