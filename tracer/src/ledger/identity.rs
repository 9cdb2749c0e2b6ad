//! Who connections are for, as their clients say: equal identities are kept once.

use std::{collections::BTreeSet, sync::Arc};

use crate::{fnv, server::wire::Identity};

/// Who a connection is for, as a number: equal for equal identities. The default is: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Who(u64);

impl Who {
    fn of(identity: &Identity) -> Self {
        // The same in every run: a replay must say the same.
        Self(fnv::hash(fnv::START, format!("{identity:?}").as_bytes()))
    }
}

/// An identity and its number.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Said {
    pub identity: Identity,
    pub who: Who,
}

/// Every identity that a connection has. A pool of a thousand has one.
#[derive(Debug, Default)]
pub(super) struct Identities {
    known: BTreeSet<Arc<Said>>,
}

impl Identities {
    pub(super) fn share(&mut self, identity: Identity) -> Arc<Said> {
        let who = Who::of(&identity);
        let said = Said { identity, who };
        if let Some(known) = self.known.get(&said) {
            return Arc::clone(known);
        }
        let said = Arc::new(said);
        self.known.insert(Arc::clone(&said));
        said
    }

    /// Forgets those that no connection has any more.
    pub(super) fn forget_unused(&mut self) {
        self.known.retain(|said| Arc::strong_count(said) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> Identity {
        Identity {
            user: Some(name.to_owned()),
            ..Identity::default()
        }
    }

    #[test]
    fn equal_identities_are_kept_once_for_as_long_as_somebody_has_them() {
        let mut identities = Identities::default();
        let (one, same) = (identities.share(user("a")), identities.share(user("a")));
        let other = identities.share(user("b"));
        assert!(Arc::ptr_eq(&one, &same));
        assert_ne!(one.who, other.who);
        drop((one, same));
        identities.forget_unused();
        assert_eq!(identities.known.iter().collect::<Vec<_>>(), [&other]);
    }
}
