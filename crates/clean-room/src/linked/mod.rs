//! Rows that meet: what is asked of them, read again and held against what each owner allows and was asked.
//!
//! The question is a cube's over the [united](United) product of all members; what it means is read here from the bytes that
//! every grant names. Each owner's node sends rows of what its own fragment asks ([`rows`]), which has to be what the question
//! takes of that owner. Rows meet by their tokens ([`meet`]); cells are made of them, weighed by the strictest limits of all
//! owners and against what each publishes by itself ([`weigh`]), and pass the one gate.

mod meet;
mod rows;
mod weigh;

use crate::error::Error;
use crate::gather::{Offer, Room};
use crate::release::{name, query_of, schema_of};
use arrow::datatypes::SchemaRef;
use futures::future::try_join_all;
use guildhall_cube::Question;
use guildhall_disclosure::Released;
use guildhall_grant::product::Product;
use guildhall_model::ProductRef;
use guildhall_plan::cube::CubeQuery;
use guildhall_plan::linked::{LinkedMember, LinkedQuery, Registered, United, agreed, decode};
use rows::{Layout, rows};
use std::sync::Arc;

/// Offers of rows that may meet in this question. Only [`Meeting::of`] makes one.
pub(crate) struct Meeting {
    /// In the order of the question's members.
    offers: Vec<Offer>,
    members: Vec<Member>,
    cells: CubeQuery,
    united: United,
    cell_status: bool,
}

/// One of those whose rows meet.
pub(crate) struct Member {
    pub(crate) of: LinkedMember,
    pub(crate) layout: Layout,
}

impl Meeting {
    /// Reads the question again, and holds it against the owners' terms, their agreement and what each was asked.
    pub(crate) fn of(offers: Vec<Offer>, bytes: &[u8], cell_status: bool) -> Result<Self, Error> {
        let products: Vec<&Product> = offers.iter().map(|o| &o.product).collect();
        agreed(&products).map_err(|(one, other)| Error::NotAgreed {
            product: Box::new(one.product_ref()),
            other: Box::new(other.product_ref()),
        })?;
        let schemas = offers.iter().map(|o| schema_of(o).map(Arc::new));
        let schemas: Vec<SchemaRef> = schemas.collect::<Result<_, _>>()?;
        let registered = |wanted: &ProductRef| {
            let mut all = offers.iter().zip(&schemas);
            let found = all.find(|(o, _)| o.part.product == *wanted);
            found.map(|(offer, schema)| Registered {
                product: &offer.product,
                schema,
            })
        };
        let linked = |source| Error::Linked {
            source: Box::new(source),
        };
        let (query, united) = decode(bytes, registered).map_err(linked)?;
        // Invariant: each product is a member once, and each member has its offer: there are as many.
        if query.members.len() != offers.len() {
            return Err(Error::Unlike {
                what: "whose rows meet",
            });
        }
        let members = members(&query, &offers, &schemas)?;
        let LinkedQuery { members: of, cells } = query;
        let mut waiting: Vec<Option<Offer>> = offers.into_iter().map(Some).collect();
        let mut ordered = Vec::new();
        for member in &of {
            let own =
                |o: &Option<Offer>| o.as_ref().is_some_and(|o| o.part.product == member.product);
            let offer = waiting.iter_mut().find(|o| own(o)).and_then(Option::take);
            ordered.push(offer.ok_or_else(|| Error::internal("a member without rows"))?);
        }
        let members = of.into_iter().zip(members);
        Ok(Self {
            offers: ordered,
            members: members.map(|(of, layout)| Member { of, layout }).collect(),
            cells,
            united,
            cell_status,
        })
    }

    /// Waits for all rows, has them meet and releases what passes.
    pub(crate) async fn release<T>(mut self, room: &Room, turn: T) -> Result<Released, Error>
    where
        T: Send + 'static,
    {
        let coming = self.offers.iter_mut().zip(&self.members);
        let coming = coming.map(|(offer, member)| rows(offer, member, room));
        let rows = try_join_all(coming).await?;
        // Stops when nobody waits any more, and its turn is not given back before.
        let waiting = Arc::new(());
        let waited_for = Arc::downgrade(&waiting);
        let released = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            self.weigh(&rows, &|| waited_for.strong_count() > 0)
        });
        let released = released.await.map_err(Error::internal)?;
        drop(waiting);
        released
    }

    fn question(&self) -> Result<Question<'_>, Error> {
        let United { product, schema } = &self.united;
        Question::new(&self.cells, product, schema).map_err(Error::internal)
    }
}

/// How each member's rows come, if its node was asked for what the question takes of it, and for no more.
fn members(
    query: &LinkedQuery,
    offers: &[Offer],
    schemas: &[SchemaRef],
) -> Result<Vec<Layout>, Error> {
    let mut layouts = Vec::new();
    for (at, member) in query.members.iter().enumerate() {
        let mut all = offers.iter().zip(schemas);
        let found = all.find(|(o, _)| o.part.product == member.product);
        let (offer, schema) = found.ok_or_else(|| Error::internal("a member without rows"))?;
        let registered = Registered {
            product: &offer.product,
            schema,
        };
        let part = query.part(at, registered);
        let part = part.ok_or_else(|| Error::internal("a member without a unit"))?;
        let asked = query_of(offer, schema)?;
        if unnamed(asked.clone()) != unnamed(part) {
            return Err(Error::OtherQuestion {
                product: name(offer),
            });
        }
        let question = Question::new(&asked, &offer.product, schema).map_err(Error::internal)?;
        layouts.push(Layout::of(&question)?);
    }
    Ok(layouts)
}

/// The question whatever the columns of its answer are called: nobody sees those.
fn unnamed(mut query: CubeQuery) -> CubeQuery {
    let keys = query.keys.iter_mut().map(|k| &mut k.name);
    keys.chain(query.aggregates.iter_mut().map(|a| &mut a.name))
        .for_each(String::clear);
    query
}
