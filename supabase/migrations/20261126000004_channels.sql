-- Who may join and speak on Realtime's private channels. One rule: a token opens the topic it names, and
-- no table is asked.
--
-- Realtime probes these policies with rows of its own (topic, extension), so they must not look at
-- `private`, `event` or `payload`. The table and its schema belong to the platform: only policies here.

drop policy if exists "voicemeet: hear the own call or ticket" on realtime.messages;
create policy "voicemeet: hear the own call or ticket" on realtime.messages
    for select to anon using (
        extension = 'broadcast'
        and topic = (select realtime.topic())
        and (
            topic = 'call:' || (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'call_id')
            or topic = 'wait:' || (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'ticket')
        ));

drop policy if exists "voicemeet: speak in the own call" on realtime.messages;
create policy "voicemeet: speak in the own call" on realtime.messages
    for insert to anon with check (
        extension = 'broadcast'
        and topic = (select realtime.topic())
        and topic = 'call:' || (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'call_id')
        and (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'slot') in ('a', 'b'));
