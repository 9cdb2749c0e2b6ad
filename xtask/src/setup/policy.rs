//! Keeps Debian's packages from starting their services while they are installed.
//!
//! `invoke-rc.d` and `deb-systemd-invoke` ask `/usr/sbin/policy-rc.d` first; an exit status of 101 forbids. The
//! file belongs to the machine's administrator, so it is put aside and put back. Should this process be
//! killed in between, what it left behind allows everything again, or asks the file put aside.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{self, Command},
};

use anyhow::{Context as _, Result};

const MARK: &str = "connleak xtask setup";

/// While this lives, no service is started.
#[derive(Debug)]
pub struct NoServices {
    policy: Option<PathBuf>,
}

impl NoServices {
    /// Puts the policy in place, unless the machine's own forbids already.
    pub fn begin(policy: &Path) -> Result<Self> {
        restore(policy)?;
        if policy.exists() && forbids(policy) {
            return Ok(Self { policy: None });
        }
        let aside = aside(policy);
        if policy.exists() {
            fs::rename(policy, &aside).with_context(|| format!("cannot put {} aside", policy.display()))?;
        }
        let guard = Self {
            policy: Some(policy.to_owned()),
        };
        let script = format!(
            "#!/bin/sh\n# {MARK}, process {pid}: no service starts while that process lives.\n\
             kill -0 {pid} 2>/dev/null && exit 101\n[ -x '{aside}' ] && exec '{aside}' \"$@\"\nexit 0\n",
            pid = process::id(),
            aside = aside.display(),
        );
        fs::write(policy, script).with_context(|| format!("cannot write {}", policy.display()))?;
        fs::set_permissions(policy, fs::Permissions::from_mode(0o755))?;
        Ok(guard)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(policy) = &self.policy
            && let Err(error) = restore(policy)
        {
            eprintln!("warning: {error:#}");
        }
    }
}

/// Removes our policy, if it is ours, and puts back what was there before.
fn restore(policy: &Path) -> Result<()> {
    let ours = fs::read_to_string(policy).is_ok_and(|script| script.contains(MARK));
    if ours {
        fs::remove_file(policy).with_context(|| format!("cannot remove {}", policy.display()))?;
    }
    let aside = aside(policy);
    if aside.exists() && !policy.exists() {
        fs::rename(&aside, policy).with_context(|| format!("cannot restore {}", policy.display()))?;
    }
    Ok(())
}

fn aside(policy: &Path) -> PathBuf {
    policy.with_extension("d.before-connleak")
}

fn forbids(policy: &Path) -> bool {
    // The arguments that `invoke-rc.d postgresql start` would pass.
    Command::new(policy)
        .args(["postgresql", "start"])
        .status()
        .is_ok_and(|status| status.code() == Some(101))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(path: &Path, text: &str) -> Result<()> {
        fs::write(path, text)?;
        Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
    }

    #[test]
    fn services_are_forbidden_for_a_while_and_nothing_stays() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let policy = folder.path().join("policy-rc.d");
        let guard = NoServices::begin(&policy)?;
        assert!(forbids(&policy));
        drop(guard);
        assert_eq!(fs::read_dir(folder.path())?.count(), 0);
        Ok(())
    }

    #[test]
    fn the_machines_own_policy_comes_back_even_after_a_kill() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let policy = folder.path().join("policy-rc.d");
        script(&policy, "#!/bin/sh\nexit 104\n")?;
        // A killed process drops nothing.
        std::mem::forget(NoServices::begin(&policy)?);
        assert!(forbids(&policy));
        drop(NoServices::begin(&policy)?);
        assert_eq!(fs::read_to_string(&policy)?, "#!/bin/sh\nexit 104\n");
        assert_eq!(fs::read_dir(folder.path())?.count(), 1);
        Ok(())
    }

    #[test]
    fn a_policy_that_forbids_already_is_not_touched() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let policy = folder.path().join("policy-rc.d");
        script(&policy, "#!/bin/sh\nexit 101\n")?;
        let guard = NoServices::begin(&policy)?;
        assert_eq!(fs::read_to_string(&policy)?, "#!/bin/sh\nexit 101\n");
        drop(guard);
        assert!(policy.exists());
        Ok(())
    }
}
