//! The nouns everything else is about: names, identities, classes, digests, time.
//!
//! Values only: no I/O, no clock but the one handed in. A name that exists here is a valid
//! name; text is parsed once, at the edge, by `FromStr`.

#![warn(missing_docs)]

mod class;
mod digest;
mod name;
mod peer;
mod time;

pub use class::{ColumnClass, OutputClass, ReleaseClass};
pub use digest::{Digest, FragmentDigest};
pub use name::{
    ColumnName, CouncilName, DatasetName, DepartmentName, DpiaReference, GrantId, IdentityName,
    LinkageId, NameError, PeriodName, PrincipalName, ProductName, Purpose, QueryId, RoleName,
};
pub use peer::{PeerId, PeerIdError, Principal, Role};
pub use time::{Clock, MockClock, SharedClock, SystemClock, Timestamp};

/// A product's full name, `council.department.product` in SQL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProductRef {
    /// The council that the department belongs to.
    pub council: CouncilName,
    /// The department that owns it.
    pub department: DepartmentName,
    /// Its name within the department.
    pub product: ProductName,
}

impl std::fmt::Display for ProductRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.council, self.department, self.product)
    }
}

impl std::str::FromStr for ProductRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut names = text.splitn(3, '.');
        let mut next = || names.next().unwrap_or_default();
        let (council, department, product) = (next(), next(), next());
        Ok(Self {
            council: council.parse()?,
            department: department.parse()?,
            product: product.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_products_full_name_is_read_as_it_is_written() {
        let name = "northmoor.parking.sessions";
        assert_eq!(name.parse::<ProductRef>().unwrap().to_string(), name);
        for wrong in [
            "",
            "northmoor.parking",
            "northmoor.parking.",
            "a.b.c.d",
            "A.b.c",
        ] {
            assert!(wrong.parse::<ProductRef>().is_err(), "{wrong}");
        }
    }
}
