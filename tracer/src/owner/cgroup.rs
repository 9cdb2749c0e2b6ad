//! Container, Kubernetes pod and systemd unit from the text of `/proc/PID/cgroup`.
//!
//! The cgroup path is the one place where every runtime leaves its mark without being asked: no socket to a
//! container engine, no credentials, and it works for a process that has no idea it runs in a container.
//! Parsing is pure, so that each runtime's layout is a line in a test. The innermost container wins, since
//! containers nest (kind, docker-in-docker); the names may come from anyone who may create a cgroup, so
//! nothing but a hexadecimal id (LXC: a plain name) is ever passed on.

/// More lines than cgroup v1 has controllers, and longer than the kernel prints a path (`PATH_MAX`).
const MAX_LINES: usize = 64;
const MAX_PATH: usize = 4096;

/// What a cgroup path says about a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Hexadecimal id of the innermost container; for LXC the container's name.
    pub container_id: Option<String>,
    /// `docker`, `containerd`, `cri-o`, `podman` or `lxc`, where the path says so.
    pub runtime: Option<&'static str>,
    /// Kubernetes pod uid, with dashes.
    pub pod_uid: Option<String>,
    /// systemd unit (service, else scope) as `systemctl status` shows it.
    pub unit: Option<String>,
}

/// Reads the content of `/proc/PID/cgroup`, version 1, 2 or both.
///
/// One line decides, never a mixture: on hybrid hosts the v2 line may say `containerd.service` while the v1
/// lines name the container. A line with a container beats one with a pod, that beats one with a unit; among
/// equals systemd's own hierarchy is the one that is kept in order.
#[must_use]
pub fn parse(cgroup_file: &str) -> Membership {
    let mut best = ([false; 4], Membership::default());
    for line in cgroup_file.lines().take(MAX_LINES) {
        // hierarchy-ID:controller-list:cgroup-path, and the path may contain colons:
        // https://man7.org/linux/man-pages/man7/cgroups.7.html
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if path.len() > MAX_PATH {
            continue;
        }
        let membership = of_path(path);
        // How much the line says, compared in this order.
        let rank = [
            membership.container_id.is_some(),
            membership.pod_uid.is_some(),
            membership.unit.is_some(),
            controllers.is_empty() || controllers == "name=systemd",
        ];
        if rank > best.0 {
            best = (rank, membership);
        }
    }
    best.1
}

fn of_path(path: &str) -> Membership {
    // The kernel appends this to a cgroup that was removed under a process:
    // https://github.com/torvalds/linux/blob/v6.12/kernel/cgroup/cgroup.c (proc_cgroup_show)
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let mut found = Membership::default();
    let mut previous = "";
    let mut in_kubernetes = false;
    // A colon separates too: containerd under the wrong driver makes "…-pod<uid>.slice:cri-containerd:<id>".
    for segment in path.split(['/', ':']) {
        in_kubernetes |= segment.contains("kubepods");
        if let Some((runtime, id)) = container(previous, segment) {
            // What is outside of a container is its runtime's unit (containerd.service, user@1000.service),
            // except that podman under a unit (quadlet) is how that unit runs its service:
            // https://docs.podman.io/en/latest/markdown/podman-run.1.html#cgroups-how
            if runtime != Some("podman") || found.unit.as_deref().is_some_and(is_user_manager) {
                found.unit = None;
            }
            found.container_id = Some(id.to_owned());
            found.runtime = runtime;
        } else if in_kubernetes && let Some(uid) = pod_uid(segment) {
            found.pod_uid = Some(uid);
        } else if let Some(unit) = unit(segment, found.unit.is_some()) {
            found.unit = Some(unit.to_owned());
        }
        previous = segment;
    }
    found
}

/// The container that a segment names, and the runtime where the name tells.
fn container<'a>(previous: &str, segment: &'a str) -> Option<(Option<&'static str>, &'a str)> {
    // LXC 4 and later: "lxc.payload.NAME"; before: "lxc/NAME" and "lxc.payload/NAME". The monitor
    // ("lxc.monitor.NAME") is outside of the container.
    // https://linuxcontainers.org/lxc/manpages/man5/lxc.container.conf.5.html (lxc.cgroup.dir)
    let lxc = segment
        .strip_prefix("lxc.payload.")
        .or_else(|| matches!(previous, "lxc" | "lxc.payload").then_some(segment));
    if let Some(name) = lxc {
        return is_plain_name(name, 64).then_some((Some("lxc"), name));
    }
    let name = segment.strip_suffix(".scope").unwrap_or(segment);
    if let Some((prefix, id)) = name.rsplit_once('-')
        && is_hex(id, 12..=64)
        && let Some(runtime) = runtime_of_prefix(prefix)
    {
        return Some((Some(runtime), id));
    }
    // Bare, by cgroupfs drivers: "/docker/<id>", "/kubepods/burstable/pod<uid>/<id>", "/ecs/<task>/<id>",
    // "…:cri-containerd:<id>", and "/../<id>" seen from another cgroup namespace. The parent may tell whose.
    is_hex(segment, 64..=64).then(|| (runtime_of_prefix(previous), segment))
}

/// The prefixes that runtimes give to their scopes. The monitors beside a container (`crio-conmon-<id>`,
/// `libpod-conmon-<id>`) are not in it, and don't match.
fn runtime_of_prefix(prefix: &str) -> Option<&'static str> {
    match prefix {
        // https://docs.docker.com/engine/containers/runmetrics/#find-the-cgroup-for-a-given-container
        "docker" => Some("docker"),
        // https://github.com/containerd/containerd (getCgroupsPath of its CRI server) and
        // https://github.com/containerd/nerdctl, which names its scopes after itself
        "cri-containerd" | "nerdctl" => Some("containerd"),
        // https://github.com/cri-o/cri-o/blob/main/internal/config/cgmgr/cgmgr_linux.go (CrioPrefix)
        "crio" => Some("cri-o"),
        // https://github.com/containers/podman/blob/main/libpod/container_internal_common.go
        // (getOCICgroupPath)
        "libpod" | "libpod-payload" => Some("podman"),
        _ => None,
    }
}

/// `pod<uid>` (cgroupfs driver) or `kubepods-burstable-pod<uid, _ for ->.slice` (systemd driver). Static pods
/// have a uid of 32 digits without dashes.
/// <https://github.com/kubernetes/kubernetes/blob/master/pkg/kubelet/cm/pod_container_manager_linux.go>
fn pod_uid(segment: &str) -> Option<String> {
    let name = segment.strip_suffix(".slice").unwrap_or(segment);
    let uid = match name.rsplit_once("-pod") {
        Some((_, uid)) => uid,
        None => name.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    let dashes = uid.bytes().filter(|byte| *byte == b'-').count();
    (digits == 32 && digits + dashes == uid.len() && matches!(dashes, 0 | 4)).then_some(uid)
}

/// The unit that a segment names. Innermost wins (`user@1000.service/app.slice/x.service` is `x.service`),
/// but the `init.scope` of a manager is just that manager.
/// <https://systemd.io/CGROUP_DELEGATION/>
fn unit(segment: &str, inside_another: bool) -> Option<&str> {
    // systemd escapes a name that would collide with a kernel file with one underscore:
    // https://systemd.io/CONTROL_GROUP_INTERFACE/
    let name = segment.strip_prefix('_').unwrap_or(segment);
    let (stem, kind) = name.rsplit_once('.')?;
    let known = match kind {
        "service" => true,
        "scope" => !(inside_another && stem == "init"),
        _ => false,
    };
    (known && !stem.is_empty() && is_plain_name(name, 255)).then_some(name)
}

fn is_user_manager(unit: &str) -> bool {
    unit.starts_with("user@")
}

fn is_hex(text: &str, length: std::ops::RangeInclusive<usize>) -> bool {
    length.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Characters of unit names (<https://www.freedesktop.org/software/systemd/man/latest/systemd.unit.html>),
/// of which LXC's names are a part.
fn is_plain_name(text: &str, longest: usize) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    (1..=longest).contains(&text.len()) && text != "." && text != ".." && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests;
