//! The peers find tracepoints through tracefs, which not every machine has mounted.

use std::path::Path;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount, umount};

const PLACE: &str = "/sys/kernel/tracing";

/// tracefs, for as long as this lives. What was mounted before stays.
pub struct Mounted {
    ours: bool,
}

impl Mounted {
    /// Mounts it if it is not.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn here() -> Result<Self> {
        let ours = !Path::new(PLACE).join("events").exists();
        if ours {
            mount(
                Some("nodev"),
                PLACE,
                Some("tracefs"),
                MsFlags::empty(),
                None::<&str>,
            )
            .with_context(|| format!("mount tracefs on {PLACE}"))?;
        }
        Ok(Self { ours })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.ours {
            // Somebody else may be using it by now; then it stays.
            let _ = umount(PLACE);
        }
    }
}
