# Two hosts, each with a rank, and the link of one goes down: both ranks end, with words about the one behind it; with the
# settings of docs/guide.md mpirun ends too. The hosts are network namespaces; skipped where they are not permitted.
. "$(dirname "$0")/support.sh"
. "$TESTS/hosts.sh"

hosts_up 2 >out 2>&1 || { echo "SKIP: no hosts can be simulated here: $(tail -n 1 out)"; exit 77; }
. "$TESTS/faults.sh"
launch=(on_hosts 2)

link_down()
{
    ip -n $HOSTS$1 link set eth0 down
}

link_up()
{
    ip -n $HOSTS$1 link set eth0 up
}

# mpirun as it is waits for its daemon behind the link, but no rank does.
strike down link_down 1
gone "${RANK[@]}"
says_once "rank 1 of 2 \(process [0-9]+ on host1\) is lost: no sign of life for 4\.[0-9] s, .* network is down; last heard in step"
kill -s KILL $MPIRUN
wait $MPIRUN 2>/dev/null
link_up 1
goes_on down

# mpirun finds out for itself, sooner than the default of run.watchdog, and ends rank 0, which speaks first.
export OMPI_MCA_oob_tcp_keepalive_time=4 OMPI_MCA_oob_tcp_keepalive_intvl=1 OMPI_MCA_oob_tcp_keepalive_probes=3
settings+=(--set run.watchdog=20)
strike noticed link_down 0
ended
[ $CODE -eq 205 ] || [ $CODE -eq 74 ] || fail "exit code $CODE"
says_once "rank 1 of 2 \(process [0-9]+ on host1\) is lost: no sign of life for [0-9.]+ s, .* network is down; last heard in step"
link_up 0
echo passed
