//! The register of products as decisions use it: decoded once, kept until it changes.

use crate::admin;
use crate::db::DbError;
use crate::register;
use guildhall_grant::product::Product;
use guildhall_model::{DepartmentName, ProductName, Purpose};
use rusqlite::Connection;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// A product on offer: its newest version, at a node that is enrolled.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) product: Product,
    /// As the node signed it, encoded.
    pub(crate) envelope: Vec<u8>,
    /// Where its node listens, once it has said so.
    pub(crate) address: Option<String>,
}

/// Every product on offer, and every purpose that may be named, at one moment.
#[derive(Debug)]
pub(crate) struct Register {
    /// Changes whenever anything in it does.
    pub(crate) revision: i64,
    products: BTreeMap<DepartmentName, BTreeMap<ProductName, Registered>>,
    pub(crate) purposes: BTreeSet<Purpose>,
}

impl Register {
    pub(crate) fn product(
        &self,
        department: &DepartmentName,
        name: &ProductName,
    ) -> Option<&Registered> {
        self.products.get(department)?.get(name)
    }

    pub(crate) fn products(&self) -> impl Iterator<Item = &Registered> {
        self.products.values().flat_map(BTreeMap::values)
    }
}

/// Keeps the newest [`Register`] that was read.
#[derive(Debug, Default)]
pub(crate) struct Shelf(Mutex<Option<Arc<Register>>>);

impl Shelf {
    /// The register as it is now. `committed` must not be inside a transaction that writes:
    /// what is kept must be what everybody sees.
    pub(crate) fn now(&self, committed: &Connection) -> Result<Arc<Register>, DbError> {
        // Read first: should the register change in between, what is kept says it is older
        // than it is, and is read again.
        let revision = register::revision(committed)?;
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(register) = kept.as_ref().filter(|r| r.revision == revision) {
            return Ok(Arc::clone(register));
        }
        let mut products = BTreeMap::<_, BTreeMap<_, _>>::new();
        for registered in register::products(committed)? {
            let Product {
                department, name, ..
            } = &registered.product;
            products
                .entry(department.clone())
                .or_default()
                .insert(name.clone(), registered);
        }
        let purposes = admin::published(committed)?;
        let register = Arc::new(Register {
            revision,
            products,
            purposes,
        });
        *kept = Some(Arc::clone(&register));
        Ok(register)
    }
}
