//! Places for readers at the local door: so many in all, and not all of them for one user of the machine.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::store::{User, share_of_user};

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    limit: usize,
    /// Places of each user that has one.
    taken: Mutex<BTreeMap<User, usize>>,
}

/// The right to one connection.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    user: User,
}

impl Places {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, taken: Mutex::default() })
    }
    /// A place; `None` if there is none, or this user has his share.
    pub(super) fn take(places: &Arc<Self>, user: User) -> Option<Place> {
        let mut taken = places.taken.lock();
        let (all, his) = (taken.values().sum::<usize>(), taken.get(&user).copied().unwrap_or(0));
        if all >= places.limit || his >= share_of_user(places.limit) {
            return None;
        }
        taken.insert(user, his + 1);
        Some(Place { places: Arc::clone(places), user })
    }
}

impl Place {
    /// Whose it is.
    pub(super) const fn user(&self) -> User {
        self.user
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        if let Some(his) = taken.get_mut(&self.user) {
            *his -= 1;
            if *his == 0 {
                taken.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_6_no_user_takes_all_places() {
        let places = Places::new(8);
        let his: Vec<Place> = (0..8).filter_map(|_| Places::take(&places, Some(1))).collect();
        assert_eq!(his.len(), 6, "a quarter is left for others");
        let mut others: Vec<Place> =
            [Some(2), None].into_iter().filter_map(|user| Places::take(&places, user)).collect();
        assert_eq!((others.len(), others.last().map(Place::user)), (2, Some(None)));
        assert!(Places::take(&places, Some(2)).is_none(), "and a limit for all together");
        others.pop();
        assert!(Places::take(&places, Some(1)).is_none(), "still his share");
        drop(his);
        others.clear();
        assert!(places.taken.lock().is_empty());
        assert!(Places::take(&Places::new(1), Some(1)).is_some(), "one place is for anybody");
    }
}
