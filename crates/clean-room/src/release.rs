//! From the owners' offers to what leaves: the question read again, the parts put together, the gate.

use crate::error::Error;
use crate::gather::{Offer, Room, tables};
use arrow::buffer::Buffer;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::convert::try_schema_from_ipc_buffer;
use futures::future::try_join_all;
use guildhall_cube::{Asked, Known, Question, levels};
use guildhall_disclosure::joint::{Joined, JointError, OwnerPart, Tables, join};
use guildhall_disclosure::{Gate, Released, Rule};
use guildhall_model::ProductRef;
use guildhall_plan::cube::{CubeQuery, recognise};
use guildhall_plan::profile::{self, FragmentLimits};
use guildhall_plan::session::state_over;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Offers whose question is the same one, of these cells, as their owners' terms allow.
///
/// Only [`agree`] makes one.
pub(crate) struct Agreed {
    offers: Vec<Offer>,
    schemas: Vec<SchemaRef>,
    queries: Vec<CubeQuery>,
    cell_status: bool,
}

/// Reads the question again from each fragment, and holds it against the terms of its owner and against the others.
pub(crate) fn agree(offers: Vec<Offer>, cell_status: bool) -> Result<Agreed, Error> {
    let all: BTreeSet<ProductRef> = offers.iter().map(|o| o.part.product.clone()).collect();
    let first = offers.first().and_then(|o| o.product.conforms_to.clone());
    let (mut schemas, mut queries) = (Vec::new(), Vec::new());
    for offer in &offers {
        let mut owners = offer.product.joint_with.clone();
        owners.insert(offer.part.product.clone());
        let owner = |p: &ProductRef| (p.council.clone(), p.department.clone());
        let departments: BTreeSet<_> = all.iter().map(owner).collect();
        let template = &offer.product.conforms_to;
        let alike = template.is_some() && *template == first;
        // Invariant: the owners of a cell are always the same; each has said who the others are, and none is twice.
        if owners != all || departments.len() != all.len() || !alike {
            let product = name(offer);
            return Err(Error::Owners { product });
        }
        let schema = Arc::new(schema_of(offer)?);
        queries.push(query_of(offer, &schema)?);
        schemas.push(schema);
    }
    let agreed = Agreed {
        offers,
        schemas,
        queries,
        cell_status,
    };
    agreed.check()?;
    Ok(agreed)
}

/// The product that an offer is of.
pub(crate) fn name(offer: &Offer) -> Box<ProductRef> {
    Box::new(offer.part.product.clone())
}

pub(crate) fn schema_of(offer: &Offer) -> Result<Schema, Error> {
    let bytes = Buffer::from_vec(offer.product.arrow_schema.clone());
    try_schema_from_ipc_buffer(&bytes).map_err(|_| Error::Contribution {
        node: Box::new(offer.part.node().clone()),
        what: "its product has no columns that can be read",
    })
}

/// The question of an owner's fragment, if that is of its product's cells and of what its grant names.
pub(crate) fn query_of(offer: &Offer, schema: &SchemaRef) -> Result<CubeQuery, Error> {
    let product = || name(offer);
    let state = state_over(&offer.part.product, schema).map_err(Error::internal)?;
    let unread = |source| Error::Profile {
        product: product(),
        source: Box::new(source),
    };
    let plan = profile::decode(&offer.part.fragment, &state, &FragmentLimits::default());
    let plan = plan.map_err(unread)?;
    let granted = offer.part.granted().map(|g| &g.columns);
    let reads = profile::reads(&plan).map_err(unread)?;
    let covered = reads.iter().all(|read| {
        read.product == offer.part.product && granted.is_some_and(|g| read.columns.is_subset(g))
    });
    if reads.is_empty() || !covered {
        return Err(Error::NotGranted { product: product() });
    }
    recognise(&plan, &offer.product).map_err(|refusal| Error::Refused {
        product: product(),
        refusal: Box::new(refusal),
    })
}

impl Agreed {
    /// Whether all are asked the same, and bound it alike.
    fn check(&self) -> Result<(), Error> {
        let questions = self.questions()?;
        let (Some(first), Some(query)) = (questions.first(), self.queries.first()) else {
            return Ok(());
        };
        let bounds = |q: &Question<'_>| q.totals.terms(q.product, q.schema);
        let expected = bounds(first).map_err(Error::internal)?;
        for ((question, own), offer) in questions.iter().zip(&self.queries).zip(&self.offers) {
            let product = || name(offer);
            let same = CubeQuery {
                product: query.product.clone(),
                unit: query.unit.clone(),
                ..own.clone()
            };
            if same != *query || question.axes != first.axes {
                return Err(Error::OtherQuestion { product: product() });
            }
            if bounds(question).map_err(Error::internal)? != expected {
                return Err(Error::OtherBounds { product: product() });
            }
        }
        Ok(())
    }

    fn questions(&self) -> Result<Vec<Question<'_>>, Error> {
        let owners = self.offers.iter().zip(&self.schemas).zip(&self.queries);
        let questions = owners.map(|((offer, schema), query)| {
            Question::new(query, &offer.product, schema).map_err(Error::internal)
        });
        questions.collect()
    }

    /// Waits for all parts, puts them together and releases what passes.
    pub(crate) async fn release<T>(mut self, room: &Room, turn: T) -> Result<Released, Error>
    where
        T: Send + 'static,
    {
        let wanted = self.wanted()?;
        let coming = self.offers.iter_mut();
        let coming = coming.map(|offer| tables(offer, &wanted, room));
        let tables = try_join_all(coming).await?;
        // Work that was begun goes on to its end, and its turn is not given back before.
        let released = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            self.weigh(tables)
        });
        released.await.map_err(Error::internal)?
    }

    /// The levels of every table of the lattice that the cells lie in.
    fn wanted(&self) -> Result<Vec<Vec<usize>>, Error> {
        let questions = self.questions()?;
        let question = questions
            .first()
            .ok_or_else(|| Error::internal("no part"))?;
        Ok(levels(&question.axes().map_err(Error::internal)?))
    }

    /// Puts the owners' tables together, and takes from them what was asked for and passes.
    fn weigh(self, tables: Vec<Tables>) -> Result<Released, Error> {
        let questions = self.questions()?;
        let mut parts = Vec::new();
        for ((question, offer), tables) in questions.iter().zip(&self.offers).zip(tables) {
            parts.push(OwnerPart {
                minimum_group: offer.product.minimum_group,
                draws: offer.draws.clone(),
                axes: question.axes().map_err(Error::internal)?,
                tables,
            });
        }
        let question = questions
            .first()
            .ok_or_else(|| Error::internal("no part"))?;
        let totals = question.totals.terms(question.product, question.schema);
        let joined = join(&parts, &totals.map_err(Error::internal)?);
        drop(parts);
        let Joined {
            facts,
            axes,
            tables,
        } = joined.map_err(|source| self.whose(source))?;
        let asked = question.asked(facts.clone(), self.cell_status);
        let asked: Asked = asked.map_err(Error::internal)?;
        let (places, more) = question.places();
        let first_fact = places.saturating_add(more.len());
        let known = Known::of(&facts, &axes, tables, places, first_fact);
        let (cells, rule) = asked
            .of(&known.map_err(Error::internal)?)
            .map_err(Error::internal)?;
        let mut gate = Gate::new(Rule::Cells(rule), cells.schema())?;
        Ok(gate.release(&cells)?)
    }

    /// An error of joining, with the owner at fault named if there is one.
    fn whose(&self, source: JointError) -> Error {
        let owner = match &source {
            JointError::Part { owner, .. } | JointError::Unlike { owner } => {
                self.offers.get(*owner)
            }
            _ => None,
        };
        let source = Box::new(source);
        match owner.map(name) {
            Some(product) => Error::Joint { product, source },
            None => Error::Merge { source },
        }
    }
}
