//! What an init does: file systems, the loopback device, the power switch.

use std::{fs, io, os::fd::AsRawFd as _, process::Command};

use anyhow::{Context as _, Result, bail};
use nix::{
    kmod::{ModuleInitFlags, finit_module},
    libc,
    mount::{MsFlags, mount as mount_at},
    sys::reboot::{RebootMode, reboot},
};

/// Mounts what the agent and the applications look into.
pub fn mount() -> Result<()> {
    for (kind, place) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("tracefs", "/sys/kernel/tracing"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/tmp"),
        ("tmpfs", "/run"),
        ("cgroup2", "/sys/fs/cgroup"),
    ] {
        fs::create_dir_all(place)?;
        mount_at(Some(kind), place, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("cannot mount {place}"))?;
    }
    Ok(())
}

/// Loads what is in `/modules`, in the order of the names. A host loads these by itself, when they are asked for.
pub fn load_modules() -> Result<()> {
    let mut modules: Vec<_> = fs::read_dir("/modules")?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    modules.sort();
    for module in modules {
        finit_module(fs::File::open(&module)?, c"", ModuleInitFlags::empty())
            .with_context(|| format!("cannot load {}", module.display()))?;
    }
    Ok(())
}

/// Nobody else switches the loopback device on.
pub fn loopback_up() -> Result<()> {
    // `struct ifreq` of `include/uapi/linux/if.h`: the device's name, then its flags.
    #[repr(C)]
    struct Request {
        name: [u8; libc::IFNAMSIZ],
        flags: u16,
        rest: [u8; 22],
    }
    let mut request = Request {
        name: [0; libc::IFNAMSIZ],
        flags: 1, // IFF_UP
        rest: [0; 22],
    };
    request.name[..2].copy_from_slice(b"lo");
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").context("cannot make a socket")?;
    // SAFETY: the descriptor is open, and the request is as long as the kernel's `struct ifreq` (40 bytes).
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result != 0 {
        bail!(
            "cannot switch the loopback device on: {}",
            io::Error::last_os_error()
        );
    }
    Ok(())
}

/// Turns the machine off; process 1 must not return.
pub fn turn_off() -> Result<()> {
    let Err(error) = reboot(RebootMode::RB_POWER_OFF);
    bail!("the machine does not turn off: {error}")
}

/// One of the applications in [`super::applications`], in a process of its own with that name.
pub fn application(name: &str) -> Command {
    // A copy of the program under the application's name, so that `comm` is that name from the beginning.
    let path = format!("/bin/{name}");
    let _ = fs::hard_link("/init", &path);
    let mut command = Command::new(path);
    command.arg(name);
    command
}
