use proptest::prelude::*;

use super::{Membership, parse};

const ID: &str = "9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d";
const OTHER: &str = "4f797c539e6c745de61a93ca3ff892358ecbcaccd8414d5db545c38428142970";
const POD: &str = "74c13223-5a00-11e9-b385-42010a80018d";
const POD_SYSTEMD: &str = "74c13223_5a00_11e9_b385_42010a80018d";
const STATIC_POD: &str = "d8cbc47e37c5b7ea5eb7f6e1ee9b5f07";

/// (what it is, the file, container, runtime, pod, unit); `$ID` and friends stand for the constants.
type Case = (
    &'static str,
    &'static str,
    Option<&'static str>,
    Option<&'static str>,
    Option<&'static str>,
    Option<&'static str>,
);

#[rustfmt::skip]
const CASES: &[Case] = &[
    ("docker, v1, cgroupfs", "12:pids:/docker/$ID\n1:name=systemd:/docker/$ID\n0::/system.slice/containerd.service\n",
        Some(ID), Some("docker"), None, None),
    ("docker, v2, systemd", "0::/system.slice/docker-$ID.scope\n", Some(ID), Some("docker"), None, None),
    ("docker, rootless", "0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-$ID.scope",
        Some(ID), Some("docker"), None, None),
    ("docker with an init inside", "0::/system.slice/docker-$ID.scope/system.slice/payments.service",
        Some(ID), Some("docker"), None, Some("payments.service")),
    ("docker on Debian of old", "10:net_prio:/$ID\n9:perf_event:/$ID\n", Some(ID), None, None, None),
    ("ECS", "4:memory:/ecs/0410eff2-7e59-4111-823e-1e0d98ef7f30/$ID", Some(ID), None, None, None),
    ("kubernetes, cgroupfs", "11:devices:/kubepods/besteffort/pod$POD/$ID", Some(ID), None, Some(POD), None),
    ("kubernetes, guaranteed, cgroupfs", "11:devices:/kubepods/pod$POD/$ID", Some(ID), None, Some(POD), None),
    ("kubernetes, containerd, systemd",
        "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod$UNDERSCORED.slice/cri-containerd-$ID.scope",
        Some(ID), Some("containerd"), Some(POD), None),
    ("kubernetes, guaranteed, docker, systemd",
        "1:name=systemd:/kubepods.slice/kubepods-pod$UNDERSCORED.slice/docker-$ID.scope",
        Some(ID), Some("docker"), Some(POD), None),
    ("kubernetes, cri-o", "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod$UNDERSCORED.slice/crio-$ID.scope/container",
        Some(ID), Some("cri-o"), Some(POD), None),
    ("kubernetes, cri-o, cgroupfs", "0::/kubepods/burstable/pod$POD/crio-$ID", Some(ID), Some("cri-o"), Some(POD), None),
    ("the monitor of cri-o is not in the container",
        "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod$UNDERSCORED.slice/crio-conmon-$ID.scope",
        None, None, Some(POD), Some("crio-conmon-$ID.scope")),
    ("static pod", "0::/kubepods/burstable/pod$STATIC/$ID", Some(ID), None, Some(STATIC_POD), None),
    ("containerd with the wrong driver",
        "0::/system.slice/containerd.service/kubepods-burstable-pod$UNDERSCORED.slice:cri-containerd:$ID",
        Some(ID), Some("containerd"), Some(POD), None),
    ("kind: kubernetes in docker, innermost wins",
        "0::/docker/$OTHER/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod$UNDERSCORED.slice/cri-containerd-$ID.scope",
        Some(ID), Some("containerd"), Some(POD), None),
    ("nerdctl", "0::/system.slice/nerdctl-$ID.scope", Some(ID), Some("containerd"), None, None),
    ("podman, root", "0::/machine.slice/libpod-$ID.scope/container", Some(ID), Some("podman"), None, None),
    ("podman, rootless", "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-$ID.scope/container",
        Some(ID), Some("podman"), None, None),
    ("podman, quadlet", "0::/system.slice/payments.service/libpod-payload-$ID",
        Some(ID), Some("podman"), None, Some("payments.service")),
    ("podman, cgroupfs", "4:memory:/libpod_parent/libpod-$ID", Some(ID), Some("podman"), None, None),
    ("lxc 4", "0::/lxc.payload.web-1/system.slice/nginx.service", Some("web-1"), Some("lxc"), None, Some("nginx.service")),
    ("lxc 3, Proxmox", "1:name=systemd:/lxc/101/ns/init.scope", Some("101"), Some("lxc"), None, Some("init.scope")),
    ("lxc's monitor is outside", "0::/lxc.monitor.web-1", None, None, None, None),
    ("a service", "0::/system.slice/payments.service", None, None, None, Some("payments.service")),
    ("a service, v1", "5:cpu,cpuacct:/\n4:memory:/system.slice/payments.service\n1:name=systemd:/system.slice/payments.service\n0::/",
        None, None, None, Some("payments.service")),
    ("systemd's own hierarchy is believed", "4:memory:/system.slice/old.service\n1:name=systemd:/system.slice/new.service\n",
        None, None, None, Some("new.service")),
    ("a templated service", r"0::/system.slice/system-postgresql.slice/postgresql@16-main.service",
        None, None, None, Some("postgresql@16-main.service")),
    ("an escaped name", r"0::/system.slice/system-app\x2dworker.slice/app\x2dworker@1.service",
        None, None, None, Some(r"app\x2dworker@1.service")),
    ("a name that systemd had to protect", "0::/system.slice/_cpu.service", None, None, None, Some("cpu.service")),
    ("a service of a user", "0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.service",
        None, None, None, Some("x.service")),
    ("a desktop application", "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-foo-123.scope",
        None, None, None, Some("app-gnome-foo-123.scope")),
    ("the manager of a user", "0::/user.slice/user-1000.slice/user@1000.service/init.scope",
        None, None, None, Some("user@1000.service")),
    ("a login", "0::/user.slice/user-1000.slice/session-3.scope", None, None, None, Some("session-3.scope")),
    ("delegation", "0::/system.slice/buildbot.service/workers/7", None, None, None, Some("buildbot.service")),
    ("removed", "0::/system.slice/payments.service (deleted)", None, None, None, Some("payments.service")),
    ("pid 1", "0::/init.scope", None, None, None, Some("init.scope")),
    ("private cgroup namespace, from inside", "0::/\n", None, None, None, None),
    ("private cgroup namespace, from beside", "0::/../../system.slice/docker-$ID.scope", Some(ID), Some("docker"), None, None),
    ("another container seen from a container", "0::/../$ID", Some(ID), None, None, None),
    ("a name that only looks like a pod", "0::/pod$POD/x", None, None, None, None),
    ("short hexadecimal is no container", "0::/docker/deadbeef", None, None, None, None),
    ("empty", "", None, None, None, None),
    ("garbage", "0:\n::\n:::::\nx", None, None, None, None),
];

fn fill(text: &str) -> String {
    text.replace("$ID", ID)
        .replace("$OTHER", OTHER)
        .replace("$POD", POD)
        .replace("$UNDERSCORED", POD_SYSTEMD)
        .replace("$STATIC", STATIC_POD)
}

#[test]
fn each_runtime_is_recognised() {
    for (what, file, container, runtime, pod, unit) in CASES {
        let expected = Membership {
            container_id: container.map(str::to_owned),
            runtime: *runtime,
            pod_uid: pod.map(str::to_owned),
            unit: unit.map(fill),
        };
        assert_eq!(parse(&fill(file)), expected, "{what}");
    }
}

proptest! {
    #[test]
    fn ids_are_plain_whatever_the_file_says(
        file in r"([0-9]{1,2}:(name=systemd)?:(/(docker|lxc|kubepods|lxc\.payload|pod|libpod-|crio-|docker-)?([a-f0-9]{0,70}|\PC{0,8})(\.scope|\.service|\.slice)?){0,5}\n){0,3}"
    ) {
        let found = parse(&file);
        if let Some(id) = &found.container_id {
            let hexadecimal = id.bytes().all(|byte| byte.is_ascii_hexdigit());
            prop_assert!(hexadecimal || found.runtime == Some("lxc"), "{id:?}");
            prop_assert!(id.is_ascii() && id.len() <= 64);
        }
        if let Some(uid) = &found.pod_uid {
            prop_assert!(uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'));
        }
        if let Some(unit) = &found.unit {
            prop_assert!(unit.bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }

    #[test]
    fn any_text_is_survived(file in r"(?s).{0,400}") {
        let _ = parse(&file);
    }
}
