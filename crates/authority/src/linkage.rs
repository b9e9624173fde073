//! Which rows meet: the linkages of a question, and whether their owners agree.

use crate::grants::{Asked, Deciding, FragmentAsked, random_id, reference};
use crate::refusal::Refusal;
use guildhall_grant::product::DEVELOPMENT;
use guildhall_grant::{GrantedProduct, Linkage};
use guildhall_model::{Digest, ProductRef};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// How many products' rows meet in one question.
const LINKED: RangeInclusive<usize> = 2..=4;

impl Asked {
    /// The other products of the linked question that `fragment` is of.
    pub(crate) fn partners(&self, fragment: &FragmentAsked) -> BTreeSet<ProductRef> {
        let of_question =
            |other: &&FragmentAsked| fragment.linked.is_some() && other.linked == fragment.linked;
        let others = self.fragments.iter().filter(of_question);
        let own = |p: &&GrantedProduct| {
            let mut own = fragment.products.iter();
            own.any(|o| (&o.department, &o.product) == (&p.department, &p.product))
        };
        let council = &self.council;
        others
            .flat_map(|o| &o.products)
            .filter(|p| !own(p))
            .map(|p| reference(council, p))
            .collect()
    }
}

impl Deciding<'_> {
    /// The linkages that the fragments are of, by their questions.
    ///
    /// Invariant: rows of two products meet only if each names the other, for a purpose whose rows are not made up.
    pub(crate) fn linkages(&self, asked: &Asked) -> Result<BTreeMap<Digest, Linkage>, Refusal> {
        let mut linkages = BTreeMap::new();
        for fragment in &asked.fragments {
            let Some(question) = fragment.linked else {
                continue;
            };
            let id = random_id("l")?;
            let linkage = linkages.entry(question).or_insert(Linkage {
                id: id.parse().map_err(|e| Refusal::internal(&e))?,
                question,
                products: BTreeSet::new(),
            });
            let [wanted] = fragment.products.as_slice() else {
                let why = "rows that are linked are of one product each";
                return Err(Refusal::invalid("fragments.products", why));
            };
            if !linkage.products.insert(reference(self.council, wanted)) {
                let why = "rows of one product are linked with themselves";
                return Err(Refusal::invalid("fragments.products", why));
            }
        }
        if !linkages.is_empty() && asked.purpose.as_str() == DEVELOPMENT {
            let why = "made-up rows are not linked; ask for another purpose";
            return Err(Refusal::invalid("purpose", why));
        }
        for linkage in linkages.values() {
            self.check_linkage(linkage)?;
        }
        Ok(linkages)
    }

    fn check_linkage(&self, linkage: &Linkage) -> Result<(), Refusal> {
        if !LINKED.contains(&linkage.products.len()) {
            let why = format!(
                "rows of {} to {} products meet",
                LINKED.start(),
                LINKED.end()
            );
            return Err(Refusal::invalid("fragments.linked_question_digest", why));
        }
        let known = |name: &ProductRef| {
            let found = self.register.product(&name.department, &name.product);
            let found = found.map(|r| &r.product);
            found.ok_or_else(|| Refusal::NoProduct(name.clone()))
        };
        for name in &linkage.products {
            let product = known(name)?;
            for other in linkage.products.iter().filter(|o| *o != name) {
                if !product.links_with(known(other)?) {
                    return Err(Refusal::Class {
                        product: name.clone(),
                        why: format!("its rows are not linked with those of `{other}`"),
                    });
                }
            }
        }
        Ok(())
    }
}
