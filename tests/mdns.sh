#!/bin/sh
# Runs in namespaces of its own (network, mounts, processes): a D-Bus, Debian's avahi-daemon on the loopback link there, and gatelet; says what avahi sees.
# Usage: mdns.sh GATELET FOLDER. FOLDER holds gatelet.json with gateway.mdns, listening on 0.0.0.0. Ends what it started, by process id.
set -eu
gatelet="$1" folder="$2"
ip link set lo up
started=""
trap 'kill $started 2>/dev/null || true' EXIT

cat >"$folder/bus.conf" <<EOF
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=$folder/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>
EOF
export DBUS_SYSTEM_BUS_ADDRESS="unix:path=$folder/bus"
dbus-daemon --config-file="$folder/bus.conf" --nofork --nopidfile >"$folder/bus.log" 2>&1 &
started="$started $!"
cat >"$folder/avahi.conf" <<EOF
[server]
allow-interfaces=lo
use-ipv6=no
[rlimits]
EOF
n=0
until [ -S "$folder/bus" ] || [ $n -ge 100 ]; do n=$((n + 1)); sleep 0.1; done
# Under a file system of its own, so that its process id's file is not the machine's.
mount -t tmpfs none /run
avahi-daemon --file "$folder/avahi.conf" --no-drop-root --no-chroot --no-rlimits --debug >"$folder/avahi.log" 2>&1 &
started="$started $!"
n=0
until avahi-browse --all --terminate >/dev/null 2>&1 || [ $n -ge 100 ]; do n=$((n + 1)); sleep 0.1; done
seen() { avahi-browse --resolve --parsable --terminate _gatelet._tcp 2>/dev/null | grep "^=" || true; }
# The file of all that comes and goes.
avahi-browse --parsable _gatelet._tcp >"$folder/browsed" 2>/dev/null &
started="$started $!"

"$gatelet" serve --config "$folder/gatelet.json" --data-dir "$folder/data" >"$folder/gatelet.log" 2>&1 &
gateway=$!
started="$started $gateway"
n=0
until [ -n "$(seen)" ] || [ $n -ge 50 ]; do n=$((n + 1)); sleep 0.2; done
printf 'seen: %s\n' "$(seen | tr '\n' ' ')"
echo "host: $(hostname)"
echo "types: $(avahi-browse --all --parsable --terminate 2>/dev/null | grep -c '_gatelet._tcp')"
sleep 3 # the announcements are out
switches() { cat /proc/$gateway/task/*/status | awk '/^voluntary_ctxt_switches/ { n += $2 } END { print n }'; }
was="$(switches)"
sleep 5
echo "switches in 5 s: $(($(switches) - was))"
echo "threads: $(cat /proc/$gateway/task/*/comm | grep -c '^mdns$')"
# Switched off: the thread goes, and with a goodbye.
sed 's/"mdns": *true/"mdns":false/' "$folder/gatelet.json" >"$folder/new.json"
cp "$folder/gatelet.json" "$folder/on.json"
mv "$folder/new.json" "$folder/gatelet.json"
n=0
until grep -q '^-' "$folder/browsed" || [ $n -ge 50 ]; do n=$((n + 1)); sleep 0.2; done
echo "gone: $(grep -c '^-' "$folder/browsed")"
echo "threads off: $(cat /proc/$gateway/task/*/comm | grep -c '^mdns$')"
# On again, and stopped.
mv "$folder/on.json" "$folder/gatelet.json"
n=0
until [ "$(grep -c '^+' "$folder/browsed")" -ge 2 ] || [ $n -ge 50 ]; do n=$((n + 1)); sleep 0.2; done
echo "back: $(grep -c '^+' "$folder/browsed")"
kill $gateway
wait $gateway || true
n=0
until [ "$(grep -c '^-' "$folder/browsed")" -ge 2 ] || [ $n -ge 50 ]; do n=$((n + 1)); sleep 0.2; done
echo "gone at the end: $(grep -c '^-' "$folder/browsed")"
# Somebody else has the name already.
avahi-publish-service "$(hostname)" _gatelet._tcp 4321 >/dev/null 2>&1 &
started="$started $!"
n=0
until seen | grep -q ';4321;' || [ $n -ge 50 ]; do n=$((n + 1)); sleep 0.2; done
"$gatelet" serve --config "$folder/gatelet.json" --data-dir "$folder/data" >>"$folder/gatelet.log" 2>&1 &
started="$started $!"
n=0
until seen | grep -q '2.*version=' || [ $n -ge 50 ]; do n=$((n + 1)); sleep 0.2; done
printf 'beside another: %s\n' "$(seen | grep 'version=')" # echo would read the backslashes
echo "the other: $(seen | grep -c ';4321;')"
echo "conflicts: $(grep -ci 'conflict' "$folder/avahi.log" || true)"
