#!/bin/sh
# Tells everybody which file systems are nearly full. For cron, see crontab; for a try:
#
#     LIMIT=0 PY2P="--join=127.0.0.1:4444" ./check_disk.sh /
#
# PY2P: how to get into the network. "--control=DIR" goes through the node of this machine with
# that state directory, which knows whom to wait for; "--join=HOST:PORT" needs no node here.
# It prints nothing while all is well, because cron mails what is printed.
set -u
full=$(df -Pl "$@" | awk -v limit="${LIMIT:-90}" 'NR > 1 && $5 + 0 >= limit { print $5, $6 }')
[ -n "$full" ] || exit 0
printf '%s\n' "$full" | {
    worst=0
    while read -r used where; do
        # shellcheck disable=SC2086 # several options, perhaps
        answer=$(py2p send ${PY2P:---control} --wait="${WAIT:-30}" \
            alert "$(uname -n)" "disk $where" "$used full" 2>&1 < /dev/null)
        status=$?
        [ $status = 0 ] && continue
        worst=$status
        # 3: sent, but not everybody has it. 1: not sent. Each time there is a line that says why.
        printf '%s is %s full, and not everybody knows:\n%s\n' "$where" "$used" "$answer"
    done
    exit $worst
}
