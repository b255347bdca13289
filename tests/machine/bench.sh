# What the scripts of the tests share, inside the machine: `. /run/bench/bench.sh` first.
# Two devices: "box" on sound card Loopback and lines GPIO17/22/27, "peer" on card Peer and lines PEER17/22/27.
SIM=/sys/kernel/config/gpio-sim
LINES="17 22 27 23 24 25 5 6 12 13 16 19"
HUB_SETTINGS=/etc/voicemeet/hub.toml
BOX_SETTINGS=/boot/firmware/voicemeet.toml

# say TEXT…: to the console, so that a stuck run can be read.
say() { echo "bench: $*" >/dev/console; }

fail() { echo "FAILED: $*"; evidence; exit 1; }

# evidence: what anybody asks first when a step was missed. It must never fail itself.
evidence() {
    local unit name
    echo "--- load $(cat /proc/loadavg), waiting for a processor: $(head -n 1 /proc/pressure/cpu 2>&1)"
    for name in box peer; do
        [ -d "$SIM/$name" ] && echo "--- lamp of $name, 50 ms each: $(for _ in $(seq 40); do
            lit $name && echo -n '#' || echo -n .
            sleep 0.05
        done)"
    done
    for unit in voicemeet-edge voicemeet-peer voicemeet-hub; do
        [ "$(systemctl show -P LoadState $unit)" = loaded ] || continue
        echo "--- $unit: $(state $unit), $(restarts $unit) restarts, says: $(status $unit)"
        [ -e /run/$unit/status.sock ] &&
            timeout 60 voicemeet-edge status --json --socket /run/$unit/status.sock 2>&1 | head -c 3000
        journalctl -q -b -o short-monotonic -u $unit -n 300 | grep -v '  File "' | tail -n 50
    done
}

# until_true SECONDS WHAT COMMAND…: wait for a command to succeed. Counted are looks, one a second on a machine that
# has time: one that stands still between two of them is waited for longer.
until_true() {
    local left=$1 limit=$1 what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$left" -gt 0 ] || fail "not within $limit looks, one a second: $what"
        left=$((left - 1))
        sleep 1
    done
}

# gpio_chip NAME PREFIX: a chip of 28 lines, named as a Pi names its own, and its buttons not pressed.
gpio_chip() {
    modprobe -q gpio-sim
    [ "$(cat "$SIM/$1/live" 2>/dev/null)" = 1 ] || make_chip "$1" "$2"
    local line
    for line in 5 17 27; do pull "$1" $line pull-up; done
}
make_chip() {
    mkdir -p "$SIM/$1/bank0"
    echo 28 >"$SIM/$1/bank0/num_lines"
    local line
    for line in $LINES; do
        mkdir -p "$SIM/$1/bank0/line$line"
        echo "$2$line" >"$SIM/$1/bank0/line$line/name"
    done
    echo 1 >"$SIM/$1/live"
    udevadm settle
}

# line NAME NUMBER: where the test bench's end of a line is.
line() { echo "/sys/devices/platform/$(cat "$SIM/$1/dev_name")/$(cat "$SIM/$1/bank0/chip_name")/sim_gpio$2"; }
pull() { echo "$3" >"$(line "$1" "$2")/pull"; }
press() { pull "$1" "$2" pull-down; sleep "${3:-0.3}"; pull "$1" "$2" pull-up; }
high() { [ "$(cat "$(line "$1" "$2")/value")" = 1 ]; }
low() { ! high "$1" "$2"; }
lit() { high "$1" 22; }

# steady NAME: the lamp has full, steady light: an open microphone, and nothing else shows that. Few processes, or
# it takes seconds on a machine that is busy.
steady() {
    local value path
    path=$(line "$1" 22)/value
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do
        read -r value <"$path" || return 1
        [ "$value" = 1 ] || return 1
        sleep 0.05
    done
}
dark() { ! steady "$1"; }

# One card for each device; what is played into DEV=1 is heard by the microphone at DEV=0.
sound_cards() { modprobe snd-aloop index=0,1 enable=1,1 id=Loopback,Peer pcm_substreams=1; }
card_away() { echo snd_aloop.0 >/sys/bus/platform/drivers/snd_aloop/unbind; }
card_back() { echo snd_aloop.0 >/sys/bus/platform/drivers/snd_aloop/bind; }

# status UNIT: the sentence after STATUS=.
status() { systemctl show -P StatusText "$1"; }
says() { status "$1" | grep -q "$2"; }
state() { systemctl show -P ActiveState "$1"; }
is_active() { [ "$(state "$1")" = active ]; }
is_inactive() { [ "$(state "$1")" = inactive ]; }
has_failed() { [ "$(state "$1")" = failed ]; }
pid() { systemctl show -P MainPID "$1"; }
# talks UNIT: in a call whose line stands; "In a call, the line is lost …" is another sentence.
talks() { [ "$(status "$1")" = "In a call" ]; }
restarts() { systemctl show -P NRestarts "$1"; }
words_of() { journalctl -q -o cat -u "$1" "${@:2}"; }

hub_settings() {
    mkdir -p /etc/voicemeet
    cat >$HUB_SETTINGS <<END
state_dir = "/var/lib/voicemeet-hub"
[http]
listen = ["0.0.0.0"]
[turn]
provider = "coturn"
[match]
open_pools = ["*"]
$*
END
}

# device_settings FILE CARD PREFIX ROLE: a device of the pool "frontdesk" at this machine's hub.
device_settings() {
    mkdir -p "$(dirname "$1")"
    {
        cat /run/bench/backend.toml
        cat <<END
[call]
pool = "frontdesk"
role = "$4"
[audio]
capture = "plughw:CARD=$2,DEV=0"
playback = "plughw:CARD=$2,DEV=0"
complexity = 0
echo = "off"
[panel]
call_line = "${3}17"
report_line = "${3}27"
lamp_line = "${3}22"
# By itself twenty seconds after the start, which is when a test presses call.
[status]
self_test_at = ""
END
        cat "${5:-/dev/null}"
    } >"$1.new"
    mv "$1.new" "$1"
}

# more_lines POOL: the box has a bell for another pool on GPIO5 and a relay on GPIO16.
more_lines() {
    sed -i -e "s/^\[panel\]/&\nkeypad = [\"GPIO5 $1\"]\nrelay_line = \"GPIO16\"\nrelay_s = 4/" $BOX_SETTINGS
}

# shut: while it runs, the housing's contact on GPIO12 is closed. A real one is stronger than the line's own pull, which
# the simulated line takes for the same thing: it opens as the device asks for it.
shut() { while :; do pull box 12 pull-down; sleep 0.1; done; }

# new_key: for the settings that are written from here on, and for the peer when it starts again.
new_key() {
    local file key
    key=$(voicemeet-edge keygen | head -n 1)
    for file in /run/bench/backend.toml /run/peer/voicemeet.toml; do
        [ ! -e $file ] || sed -i "s/^intercom_keys = .*/intercom_keys = [\"$key\"]/" $file
    done
}

# in_its_place UNIT COMMAND: a unit with the device's sandbox and cgroup for another command.
in_its_place() {
    sed -e "s#^ExecStart=.*#ExecStart=$2#" -e "s#^Type=.*#Type=exec#" -e "s#^Restart=.*#Restart=no#" \
        -e "/^WatchdogSec=/d" -e "s#^RuntimeDirectory=.*#RuntimeDirectory=$1#" \
        -e "s#%t/voicemeet-edge#%t/$1#" -e "/^OnFailure=/d" -e "/^Conflicts=/d" \
        /usr/lib/systemd/system/voicemeet-edge.service >"/run/systemd/system/$1.service"
    systemctl daemon-reload
}

# A second device: a copy of the unit with places of its own.
second_device() {
    sed -e "/^Conflicts=/d" -e "s#/boot/firmware/voicemeet.toml#/run/peer/voicemeet.toml#g" \
        -e "s#RuntimeDirectory=voicemeet-edge#RuntimeDirectory=voicemeet-peer#" \
        -e "s#%t/voicemeet-edge#%t/voicemeet-peer#" \
        /usr/lib/systemd/system/voicemeet-edge.service >/run/systemd/system/voicemeet-peer.service
    systemctl daemon-reload
}

# speak CARD FILE and hear CARD FILE SECONDS: the room at that device. Above the sound threads' priority,
# or the recorder starves and writes zeros.
speak() { chrt -f 20 aplay -q -D "plughw:CARD=$1,DEV=1" "$2"; }
hear() { chrt -f 20 arecord -q -D "plughw:CARD=$1,DEV=1" -f S16_LE -r 48000 -c 1 -d "$3" "$2"; }

# memory: MiB used by the whole machine; then what each unit alone would give back (its proportional share).
memory() {
    local unit pid sum
    awk '/MemTotal/ {t=$2} /MemAvailable/ {a=$2} END {print "all", int((t-a)/1024)}' /proc/meminfo
    for unit in voicemeet-edge voicemeet-peer voicemeet-hub; do
        sum=0
        for pid in $(cat "/sys/fs/cgroup/system.slice/$unit.service/cgroup.procs" 2>/dev/null); do
            sum=$((sum + $(awk '/^Pss:/ {print $2}' "/proc/$pid/smaps_rollup" 2>/dev/null || echo 0)))
        done
        echo "$unit $((sum / 1024))"
    done
}
# ready_after UNIT: ms from its start to READY, as systemd saw them.
ready_after() {
    local from to
    from=$(systemctl show -P ExecMainStartTimestampMonotonic "$1")
    to=$(systemctl show -P ActiveEnterTimestampMonotonic "$1")
    echo $(((to - from) / 1000))
}

# become UNIT NAME SENTENCE [LINE]: press call, or another line, until the device says so; a press may be swallowed as a bounce.
become() {
    local tries
    for tries in 1 2 3; do
        press "$2" "${4:-17}"
        for _ in 1 2 3 4 5 6 7 8 9 10; do
            says "$1" "$3" && return
            sleep 1
        done
        says "$1" "Ready: press call" || says "$1" "Ringing" || fail "$1 says: $(status "$1")"
    done
    fail "$1 does not say $3 after three presses: $(status "$1")"
}

# call_up: box calls, peer answers; returns when both are heard.
call_up() {
    says voicemeet-edge "In a call" && hang_up
    until_true 60 "box ready" says voicemeet-edge "Ready: press call"
    until_true 60 "peer ready" says voicemeet-peer "Ready: press call"
    become voicemeet-edge box "Looking\|Ringing"
    until_true 60 "peer rings" says voicemeet-peer "Ringing"
    become voicemeet-peer peer "Found\|In a call"
    until_true 60 "box talks" talks voicemeet-edge
    until_true 60 "peer talks" talks voicemeet-peer
}

# talk: a call, and at both ends the light of an open microphone. A device that is ended by its watchdog meanwhile,
# because the whole machine stood still, may try again: nothing else may.
talk() {
    local tries before
    for tries in 1 2 3; do
        before=$(restarts voicemeet-edge)-$(restarts voicemeet-peer)
        if (
            call_up
            until_true 60 "the box's microphone lamp" steady box
            until_true 60 "the peer's microphone lamp" steady peer
        ); then return; fi
        [ "$(restarts voicemeet-edge)-$(restarts voicemeet-peer)" != "$before" ] || exit 1
        say "try $tries: a watchdog ended a device"
    done
    exit 1
}

# report_call: press report in a call until the call is over; one press may be swallowed as a bounce.
report_call() {
    local tries
    over() { ! says voicemeet-edge "In a call"; }
    for tries in 1 2 3; do
        press box 27 1
        for _ in 1 2 3 4 5 6 7 8 9 10; do
            over && return
            sleep 1
        done
    done
    fail "three presses of report end no call"
}
hang_up() {
    says voicemeet-edge "Ready" || press box 17
    until_true 60 "box idle" says voicemeet-edge "Ready: press call"
    until_true 60 "peer idle" says voicemeet-peer "Ready: press call"
}

# What updates need after each start: the cards and lines are the kernel's and gone with it, settings stayed on the card.
# The test's certificate lies over the image's, which has none.
keyring() { mount --bind /run/bench/keyring.pem /etc/rauc/keyring.pem; }
update_bench() {
    gpio_chip box GPIO
    sound_cards
    keyring
    # It started before its card was there, and would try it again at the next call only. Or before its lines were:
    # then it is started again by systemd, and who needs it waits for it.
    systemctl try-restart voicemeet-edge || true
}

# connected: the device has its hub, whatever else may be wrong with it.
connected() { voicemeet-edge status --json | grep -q '"backend": *"connected"'; }

# prove SECONDS: look for the proofs of a new slot now, as the start of the system does, with less time for each.
prove() {
    systemctl stop voicemeet-prove
    voicemeet-edge update --prove --limit "$1"
}
