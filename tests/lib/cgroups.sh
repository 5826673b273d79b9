# A node's own subtree in every cgroup hierarchy of the host, v1, hybrid or v2.

# Prints "MOUNTPOINT TYPE OPTIONS" for each mounted hierarchy.
cgroup_mounts() {
  awk '{ for (i = 7; $i != "-"; i++); if ($(i + 1) ~ /^cgroup2?$/) print $5, $(i + 1), $(i + 3) }' /proc/self/mountinfo |
    sort -u -k1,1
}

# A new v1 cpuset is empty and takes no process: it gets its parent's.
make_cgroups() {
  local point type options file
  while read -r point type options; do
    mkdir "$point/$1"
    for file in cpuset.cpus cpuset.mems; do
      [[ $type == cgroup2 || ! -e $point/$file ]] || cat "$point/$file" >"$point/$1/$file"
    done
    [[ $point != /sys/fs/cgroup ]] || delegate "$point"
  done < <(cgroup_mounts)
}

# Lets the children of a v2 cgroup have each controller that it has itself.
delegate() {
  local controller
  for controller in $(cat "$1/cgroup.controllers"); do
    echo "+$controller" >"$1/cgroup.subtree_control" 2>/dev/null || true
  done
}

# Moves the calling process (not a child of it).
join_cgroups() {
  local point
  while read -r point _; do echo $$ >"$point/$1/cgroup.procs"; done < <(cgroup_mounts)
}

# Removes the subtrees. What died a moment ago can hold them for a little.
remove_cgroups() {
  local point try left
  for try in {1..100}; do
    left=
    while read -r point _; do
      [[ -d $point/$1 ]] || continue
      find "$point/$1" -depth -type d -exec rmdir {} + 2>/dev/null || true
      [[ ! -d $point/$1 ]] || left=$point/$1
    done < <(cgroup_mounts)
    [[ -n $left ]] || return 0
    sleep 0.1
  done
  return 1
}
