#!/bin/bash
# What tests/vm/units does on the machine that was booted for it: one part, named by the first word. The package, an image
# and the disk that two boots share lie beside this file.
set -u
here=$(cd "$(dirname "$0")" && pwd)
failed=0
LOOP='n=0; while :; do n=$((n+1)); echo $n; sleep 0.5; done'

# check WHAT COMMAND…: one line of the report, and what was said when it was not so.
check() {
    local what=$1 said
    shift
    if said=$("$@" 2>&1); then
        printf 'ok      %s\n' "$what"
    else
        printf 'FAILED  %s\n        %s\n' "$what" "$*"
        printf '%s\n' "$said" | tail -n 20 | sed 's/^/        | /'
        failed=$((failed + 1))
    fi
}
# Asks until it is so, for two minutes: machines without a processor of their own are slow.
soon() {
    local end=$((SECONDS + 120))
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.2
    done
}
same() { [ "$1" = "$2" ] || { printf '"%s" is not "%s"\n' "$1" "$2"; return 1; }; }
not() { ! "$@"; }
field() { davit inspect -f "$2" "$1"; }
state() { same "$(field "$1" '{{.State.Status}}')" "$2"; }
answers() { same "$(curl -fsS -m 5 http://127.0.0.1:8080/)" hi; }
unit() { systemctl show -p "$1" --value "${2:-davitd}"; }
engine_answers() { davit version >/dev/null; }
another_engine() { local pid; pid=$(unit MainPID) && [ "$pid" != 0 ] && [ "$pid" != "$1" ] && engine_answers; }
# The pids of the containers that are looked at, which stay what they are.
pids() { field web '{{.State.Pid}}'; field counts '{{.State.Pid}}'; }
counts_on() {
    local before
    before=$(davit logs counts | tail -n 1)
    soon eval '[ "$(davit logs counts | tail -n 1)" -gt '"$before"' ]'
}
unharmed() { same "$(pids)" "$known" && answers && counts_on; }

install_package() {
    check "the package is installed" dpkg -i "$here/davit.deb"
}
start_engine() {
    # The first use of the firewall loads its modules, which a slow machine takes long for.
    nft list ruleset >/dev/null
    check "the unit starts" systemctl start davitd
    check "the engine answers" soon engine_answers
}
load() { check "an image is loaded" davit load -i "$here/busybox.tar"; }
serve() {
    check "a web server is published" davit run -d --name web --restart always -p 8080:80 busybox \
        sh -c 'echo hi > /index.html; exec httpd -f -h /'
    check "it answers" soon answers
}
# The disk of two boots, where the engine keeps what lasts.
mount_disk() {
    [ "$1" = old ] || check "the disk is formatted" mkfs.ext4 -q -F "$here/disk"
    mkdir -p /var/lib/davit
    check "the disk is mounted" mount -o loop "$here/disk" /var/lib/davit
}

life_first() {
    check "nothing was enabled" not systemctl is-enabled davitd
    check "nothing was started" not systemctl is-active davitd
    check "the command line says how to start it" eval 'davit ps 2>&1 | grep -q "systemctl start davitd"'
    check "the units are sound" systemd-analyze verify --man=no davitd.service davit-containers.service
    check "the unit is enabled" systemctl enable davitd
    start_engine
    load
    serve
    check "one that counts runs" davit run -d --name counts busybox sh -c "$LOOP"
    known=$(pids)
    check "all is well" unharmed
    check "only the engine is in its unit" soon eval 'same "$(cat "/sys/fs/cgroup/$(unit ControlGroup)/cgroup.procs" 2>/dev/null ||
        cat "/sys/fs/cgroup/systemd/$(unit ControlGroup)/cgroup.procs")" "$(unit MainPID)"'
    check "info knows the host" davit info
    printf '        %s\n' "$(davit info | grep -E 'Cgroup (Driver|Version)|Kernel' | tr -s ' ' | tr '\n' ';')"
    systemd-analyze security --no-pager davitd 2>/dev/null | tail -n 1 | sed 's/^/        /'
}

limits_hold() {
    local wanted
    [ -e /sys/fs/cgroup/cgroup.controllers ] || return 0
    wanted=$(davit run --rm --memory 64m --cpus 0.5 --pids-limit 50 busybox \
        sh -c 'cd /sys/fs/cgroup; echo $(cat memory.max cpu.max pids.max)')
    same "$wanted" "67108864 50000 100000 50"
}

life_of_the_unit() {
    local before
    check "limits hold" limits_hold
    before=$(unit MainPID)
    check "the unit is restarted" systemctl restart davitd
    check "another engine answers" soon another_engine "$before"
    check "containers did not notice" unharmed

    before=$(unit MainPID)
    davit logs -f counts >/tmp/followed 2>/tmp/follower-said &
    local follower=$!
    kill -9 "$before"
    check "after kill -9 another engine answers by itself" soon another_engine "$before"
    check "containers did not notice" unharmed
    check "who followed a log still does" kill -0 "$follower"
    kill "$follower"
    head -n -1 /tmp/followed >/tmp/followed-whole
    seq "$(wc -l </tmp/followed-whole)" >/tmp/wanted-whole
    check "nothing was missed in it" diff /tmp/wanted-whole /tmp/followed-whole

    check "the unit is stopped" systemctl stop davitd
    check "it is not started again" eval 'sleep 2; ! systemctl is-active davitd'
    check "the port answers without an engine" answers
    start_engine
    check "containers did not notice" unharmed

    echo 'lgo-level = "info"' >>/etc/davit/davitd.toml
    systemctl restart davitd
    check "a wrong setting is told in the journal" soon eval 'journalctl -u davitd --no-pager | grep -q lgo-level'
    check "the port answers meanwhile" answers
    sed -i '$d' /etc/davit/davitd.toml
    check "the engine comes back by itself" soon engine_answers
    check "containers did not notice" unharmed
}

life_of_systemd() {
    check "systemd reads its units anew" systemctl daemon-reload
    check "systemd executes itself anew" systemctl daemon-reexec
    check "the journal is restarted" systemctl restart systemd-journald
    check "a unit with limits comes and goes" systemd-run -q --wait -p MemoryMax=50M -p CPUQuota=20% true
    check "limits still hold" limits_hold
    check "containers did not notice" unharmed
    check "a container is killed for its memory, the unit is not" eval \
        'davit run --rm --memory 20m --memory-swap 20m busybox sh -c "x=a; while :; do x=\$x\$x; done"; [ $? = 137 ] &&
         systemctl is-active davitd'
}

life_of_the_package() {
    local before
    mkdir /tmp/newer && dpkg-deb -R "$here/davit.deb" /tmp/newer
    sed -i 's/^Version: .*/Version: 99.0/' /tmp/newer/DEBIAN/control
    dpkg-deb -Znone -b /tmp/newer /tmp/newer.deb >/dev/null
    echo 'log-level = "warn"' >>/etc/davit/davitd.toml
    before=$(unit MainPID)
    (while [ ! -e /tmp/upgraded ]; do answers || echo "missed" >>/tmp/missed; sleep 0.1; done) &
    check "a newer package is installed" dpkg -i /tmp/newer.deb
    check "the engine is the new one" soon another_engine "$before"
    touch /tmp/upgraded
    wait $!
    check "the port always answered" not test -e /tmp/missed
    check "containers did not notice" unharmed
    check "settings were kept" grep -q '^log-level = "warn"' /etc/davit/davitd.toml
    before=$(unit MainPID)
    check "the older package is installed again" dpkg -i "$here/davit.deb"
    check "the engine is the old one" soon another_engine "$before"
    check "containers did not notice" unharmed

    check "the package is removed" dpkg -r davit
    check "the engine has ended" not systemctl is-active davitd
    check "containers go on without it" answers
    install_package
    check "removed and installed it is not enabled" not systemctl is-enabled davitd
    start_engine
    check "containers did not notice" unharmed

    check "containers stop" davit rm -f web counts
    check "the package is purged" dpkg -P davit
    check "no shim is left" soon not pgrep -x davit-shim
    check "its settings are gone" not test -e /etc/davit
    check "what lasts is left" test -d /var/lib/davit/image
    ip link del davit0
    nft delete table inet davit
    find /sys/fs/cgroup/davit /sys/fs/cgroup/*/davit -depth -type d -exec rmdir {} + 2>/dev/null
    rm -rf /run/davit /var/lib/davit
    check "nothing is left in the kernel" eval '! ip link | grep -q davit && ! nft list ruleset | grep -q davit &&
        [ -z "$(find /sys/fs/cgroup -maxdepth 2 -name "davit*")" ]'
}

# Containers of every policy, and one that a person stopped.
policies() {
    local policy
    serve
    for policy in unless-stopped on-failure no; do
        check "one of policy $policy runs" davit run -d --name "is-$policy" --restart "$policy" busybox sh -c "$LOOP"
    done
    check "one runs to be stopped" davit run -d --name stopped --restart unless-stopped busybox sh -c "$LOOP"
    check "it is stopped" davit stop -t 0 stopped
    check "a volume is written" davit run --rm -v data:/data busybox sh -c 'echo kept > /data/file; sync'
    cat /proc/sys/kernel/random/boot_id >"$here/boot-id"
}
came_back() {
    check "the host was booted anew" not same "$(cat /proc/sys/kernel/random/boot_id)" "$(cat "$here/boot-id")"
    install_package
    mount_disk old
    start_engine
    check "always runs again" soon state web running
    check "unless-stopped runs again" soon state is-unless-stopped running
    check "on-failure runs again" soon state is-on-failure running
    check "the one that was stopped does not" state stopped exited
    check "the one without a policy does not" state is-no exited
    check "the port answers" soon answers
    check "the volume has its file" eval 'same "$(davit run --rm -v data:/data busybox cat /data/file)" kept'
    davit info | sed -n '/^ Recovery/,/^ [A-Z]/p' | sed 's/^/        /'
}

case $1 in
    life)
        install_package
        life_first
        life_of_the_unit
        life_of_systemd
        life_of_the_package
        ;;
    boot-end)
        install_package
        mount_disk new
        start_engine
        load
        policies
        # In one step, as when the host goes down: systemd orders them.
        check "host goes down: the units end" systemctl stop davitd davit-containers
        check "no shim holds up the host" soon not pgrep -x davit-shim
        check "the disk is let go of" umount /var/lib/davit
        ;;
    boot-begin)
        came_back
        check "why tells of it" eval 'davit why web | grep -q "the host goes down"'
        ;;
    cut-power)
        install_package
        mount_disk new
        start_engine
        load
        policies
        [ "$failed" = 0 ] || exit 1
        echo 'power is cut now' | tee "$here/said"
        echo o >/proc/sysrq-trigger
        sleep 60
        exit 1
        ;;
    cut-back) came_back ;;
esac
[ "$failed" = 0 ] || journalctl -u davitd -n 30 --no-pager
exit "$((failed > 0))"
