#!/usr/bin/env bash
# Several hosts on one machine, for tests: network namespaces with host names of their own, joined by a bridge in one more.
# Sourced after support.sh it gives the functions below; run by itself it is what mpirun starts its daemons with.

# on_host I COMMAND..: become the command on the I-th host, from 0.
on_host()
{
    local host=$1
    shift
    exec nsenter --net="/run/netns/$HOSTS$host" unshare --uts -- sh -c 'hostname "$0"; exec "$@"' "host$host" "$@"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then # [OPTIONS] ADDRESS WORDS..
    while [[ $1 == -* ]]; do shift; done
    address=$1
    shift
    on_host $((${address##*.} - 1)) bash -c "$*"
fi
export HOSTS=het$$h

# hosts_up N: N hosts, 10.77.0.1 and so on. Fails where that is not permitted. They go when the test ends.
hosts_up()
{
    local i
    trap 'hosts_down; rm -rf "$WORK"' EXIT
    ip netns add ${HOSTS}b && ip -n ${HOSTS}b link add bridge type bridge && ip -n ${HOSTS}b link set bridge up || return
    for ((i = 0; i < $1; i++)); do
        ip netns add $HOSTS$i &&
            ip -n $HOSTS$i link add eth0 type veth peer name to$i netns ${HOSTS}b &&
            ip -n ${HOSTS}b link set to$i master bridge up &&
            ip -n $HOSTS$i addr add 10.77.0.$((i + 1))/24 dev eth0 &&
            ip -n $HOSTS$i link set eth0 up && ip -n $HOSTS$i link set lo up &&
            (on_host $i true) || return
    done
}

hosts_down()
{
    local name
    for name in $(ip netns list | grep -o "^$HOSTS[^ ]*"); do
        ip netns pids "$name" | xargs -r kill -s KILL 2>/dev/null
        ip netns del "$name"
    done
}

# on_hosts N COMMAND..: become mpirun on the first of N hosts, with one rank on each.
on_hosts()
{
    local count=$1 list i
    shift
    for ((i = 1; i <= count; i++)); do list+=${list:+,}10.77.0.$i:1; done
    on_host 0 mpirun -np "$count" --host "$list" --bind-to none --mca plm rsh --mca plm_rsh_agent "$TESTS/hosts.sh" \
        --mca plm_rsh_no_tree_spawn 1 --mca oob_tcp_if_include eth0 --mca btl_tcp_if_include eth0 --mca pml ob1 \
        --mca btl tcp,self "$@"
}
