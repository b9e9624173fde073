//! From rows that meet to what leaves: the tables of the cells' lattice, the lattices beside it, the gate.
//!
//! # What owners publish by themselves
//!
//! A cell of the answer is of units that are somewhere and meet what the question takes of them elsewhere; the same units, and
//! others, are in cells that an owner publishes by itself, or that another question links. The one taken from the other tells
//! of those that are left: of the people of a ward whom an owner knows, how many are *not* in the answer. So for each set of
//! members whose rows show there is a lattice [beside](Beside) the answer's: all units that are at those members, told apart
//! by their dimensions and by whether they are in the answer, with *in* and *out* as declared values of one more axis. What
//! is withheld there of the units that are in, for the margins with those that are out, the answer withholds.
//!
//! # Noise
//!
//! As everywhere it is a function of the members. The record keys are 8 bits of a unit's (see the node's text on tokens), of
//! that member among those who have to be there whose name comes first; the secret is of all owners together, so that no
//! owner alone can draw it. The same units linked with another set of products have other noise: with `n` products that may
//! meet there are fewer than `2^n` draws of one count.

use super::Meeting;
use super::meet::{Unit, units};
use super::rows::Rows;
use crate::error::Error;
use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt32Array, UInt64Array, new_null_array};
use arrow::compute::take;
use guildhall_cube::{Asked, Known, Question, TotalOf, is_finest, levels};
use guildhall_disclosure::joint::Tables;
use guildhall_disclosure::{
    Adds, Axis, Beside, CellDraws, Cuboid, DrawSecret, Facts, Gate, Gathered, Gathering, Noise,
    NoiseSecret, PTable, ReleaseError, Released, Rule, Takes,
};
use guildhall_model::ColumnName;
use guildhall_plan::cube::CubeLevel;
use guildhall_plan::linked::{Presence, own_name};
use std::sync::Arc;

/// Rows that are handed on at a time.
const STEP: usize = 8_192;
/// The most ways in which the rows of one question meet.
const MOST_ROWS: u64 = 1 << 30;
/// The most cells of one table: beyond it hardly any stands on more than one unit.
const MOST_CELLS: usize = 2_000_000;
/// What the axis of a lattice beside the answer's says of units that are not in it.
const OUTSIDE: &str = "out";

/// A column of some member's rows.
#[derive(Debug, Clone, Copy)]
struct Place {
    member: usize,
    column: usize,
}

/// Units at some members, as a gathering takes them.
struct Met<'a> {
    rows: &'a [Rows],
    presences: Vec<Presence>,
    /// Whose rows are taken, each with each.
    members: Vec<usize>,
    /// Whose record keys are told; the first of these at which a unit is.
    told_by: Vec<usize>,
    keys: Vec<Place>,
    values: Vec<Place>,
    /// Units that are in the answer alone, or all with a word on whether they are.
    inside: bool,
}

impl Meeting {
    /// Has the rows meet, and takes from the cells of them what was asked for and passes.
    pub(super) fn weigh(&self, rows: &[Rows]) -> Result<Released, Error> {
        let question = self.question()?;
        let axes = question.axes().map_err(Error::internal)?;
        let facts = self.facts(&question, |_| true)?;
        let shown = self.showing();
        let met = self.met(rows, &question, &shown, true)?;
        let gathered = met.gathered(self.adds(&question, |_| true)?)?;
        let (places, more) = question.places();
        let tables = tables(&gathered, &axes, &more)?;
        let beside = self.beside(rows, &question, &axes)?;
        let asked = question.asked(facts.clone(), self.cell_status);
        let asked: Asked = asked.map_err(Error::internal)?;
        let first_fact = places.saturating_add(more.len());
        let known = Known::beside(&facts, &axes, tables, (places, first_fact), &beside);
        let (cells, rule) = asked
            .of(&known.map_err(Error::internal)?)
            .map_err(Error::internal)?;
        let mut gate = Gate::new(Rule::Cells(rule), cells.schema())?;
        Ok(gate.release(&cells)?)
    }

    /// The members whose columns are in the answer.
    fn showing(&self) -> Vec<usize> {
        let shows = |at: &usize| self.members.get(*at).is_some_and(|m| m.of.presence.shows());
        (0..self.members.len()).filter(shows).collect()
    }

    fn presences(&self) -> Vec<Presence> {
        self.members.iter().map(|m| m.of.presence).collect()
    }

    /// The members that a unit of the answer is at for sure, in the order of their names.
    fn sure(&self) -> Vec<usize> {
        let all = self.members.iter().enumerate();
        let there =
            all.filter(|(_, m)| matches!(m.of.presence, Presence::Required | Presence::Some));
        let mut sure: Vec<_> = there.map(|(at, m)| (&m.of.product, at)).collect();
        sure.sort();
        sure.into_iter().map(|(_, at)| at).collect()
    }

    /// The facts of cells, with those totals that `has`.
    fn facts(
        &self,
        question: &Question<'_>,
        has: impl Fn(TotalOf<'_>) -> bool,
    ) -> Result<Facts, Error> {
        let terms = question.totals.terms(question.product, question.schema);
        let terms = terms.map_err(Error::internal)?;
        let all = question.totals.iter().zip(terms);
        let totals = all.filter(|(total, _)| has(*total)).map(|(total, terms)| {
            let id = match total {
                TotalOf::Rows => "rows".to_owned(),
                TotalOf::Sum(m) => format!("sum:{}", m.column),
                TotalOf::Values(m) => format!("values:{}", m.column),
            };
            (id, terms.ones)
        });
        let secrets: Vec<&DrawSecret> = self.offers.iter().map(|o| &o.draws.secret).collect();
        let noise = Noise {
            draws: CellDraws::Own(DrawSecret::together(&secrets)),
            table: PTable::standard(),
        };
        Ok(Facts::gathered(
            question.product.minimum_group,
            totals,
            noise,
        ))
    }

    /// How those totals that `has` are added up from the values of [`Self::met`].
    fn adds(
        &self,
        question: &Question<'_>,
        has: impl Fn(TotalOf<'_>) -> bool,
    ) -> Result<Vec<Adds>, Error> {
        let terms = question.totals.terms(question.product, question.schema);
        let terms = terms.map_err(Error::internal)?;
        let measures = measures(question);
        let value = |column: &ColumnName| {
            let at = measures.iter().position(|m| *m == column);
            at.ok_or_else(|| Error::internal("a measure that was not asked for"))
        };
        let all = question.totals.iter().zip(terms);
        let adds = all.filter(|(total, _)| has(*total)).map(|(total, terms)| {
            Ok(Adds {
                takes: match total {
                    TotalOf::Rows => Takes::Rows,
                    TotalOf::Values(m) => Takes::Values(value(&m.column)?),
                    TotalOf::Sum(m) => Takes::Sum(value(&m.column)?),
                },
                lower: terms.lower,
                upper: terms.upper,
                scale: terms.scale,
            })
        });
        adds.collect()
    }

    /// Where the rows of `members` have what the question tells cells apart by and adds up.
    fn met<'a>(
        &self,
        rows: &'a [Rows],
        question: &Question<'_>,
        members: &[usize],
        inside: bool,
    ) -> Result<Met<'a>, Error> {
        let of = |name: &ColumnName| self.owner(name).filter(|(at, _)| members.contains(at));
        let axes = question.axes.iter();
        let axes = axes.filter(|a| a.levels.first().is_some_and(|l| of(&l.column).is_some()));
        let keys = axes.flat_map(|a| &a.levels).map(|level| {
            let place = of(&level.column).and_then(|(member, column)| {
                let by = level.by.clone();
                let level = CubeLevel { column, by };
                let column = self.members.get(member)?.layout.level(&level)?;
                Some(Place { member, column })
            });
            place.ok_or_else(|| Error::internal("a level that no member has sent"))
        });
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let values = measures(question).into_iter().map(|measure| {
            let place = self.owner(measure).and_then(|(member, column)| {
                let column = self.members.get(member)?.layout.value(&column)?;
                Some(Place { member, column })
            });
            place.ok_or_else(|| Error::internal("a measure that no member has sent"))
        });
        let told_by = match inside {
            true => self.sure(),
            false => members.to_vec(),
        };
        Ok(Met {
            rows,
            presences: self.presences(),
            members: members.to_vec(),
            told_by,
            keys,
            values: values.collect::<Result<Vec<_>, _>>()?,
            inside,
        })
    }

    /// The member that a column of the united product is of, and what it is called there.
    fn owner(&self, united: &ColumnName) -> Option<(usize, ColumnName)> {
        let mut all = self.members.iter().enumerate();
        all.find_map(|(at, m)| Some((at, own_name(&m.of.product, united)?)))
    }

    /// The lattices that the answer's cells lie in, too: of every set of members whose units are not all in the answer.
    fn beside(
        &self,
        rows: &[Rows],
        question: &Question<'_>,
        axes: &[Axis],
    ) -> Result<Vec<Beside>, Error> {
        let shown = self.showing();
        let sets = 1..1_usize << shown.len();
        let mut all = Vec::new();
        for set in sets {
            let bits = shown.iter().enumerate();
            let members = bits
                .filter(|(bit, _)| set >> bit & 1 == 1)
                .map(|(_, at)| *at);
            let members: Vec<usize> = members.collect();
            if !self.are_all_in(&members) {
                all.push(self.beside_at(rows, question, axes, &members)?);
            }
        }
        Ok(all)
    }

    /// Whether a unit that is at `members` is in the answer whatever the data are.
    fn are_all_in(&self, members: &[usize]) -> bool {
        let mut all = self.members.iter().enumerate();
        all.all(|(at, m)| members.contains(&at) || m.of.presence == Presence::Optional)
    }

    fn beside_at(
        &self,
        rows: &[Rows],
        question: &Question<'_>,
        axes: &[Axis],
        members: &[usize],
    ) -> Result<Beside, Error> {
        let of = |name: &ColumnName| {
            self.owner(name)
                .is_some_and(|(at, _)| members.contains(&at))
        };
        let own = question.axes.iter().enumerate();
        let own = own.filter(|(_, a)| a.levels.first().is_some_and(|l| of(&l.column)));
        let numbers: Vec<usize> = own.map(|(at, _)| at).collect();
        let mut beside_axes: Vec<Axis> = numbers
            .iter()
            .filter_map(|at| axes.get(*at).cloned())
            .collect();
        beside_axes.push(inside_or_not()?);
        let has = |total: TotalOf<'_>| match total {
            TotalOf::Rows => true,
            TotalOf::Sum(m) | TotalOf::Values(m) => of(&m.column),
        };
        let totals = question.totals.iter().enumerate().filter(|(_, t)| has(*t));
        let met = self.met(rows, question, members, false)?;
        let gathered = met.gathered(self.adds(question, has)?)?;
        let cuboids = tables(&gathered, &beside_axes, &[])?;
        let cuboid = |(levels, cells)| Cuboid { levels, cells };
        Ok(Beside {
            facts: self.facts(question, has)?,
            axes: beside_axes,
            of: numbers,
            totals: totals.map(|(at, _)| at).collect(),
            cuboids: cuboids.into_iter().map(cuboid).collect(),
        })
    }
}

/// The axis that tells units in the answer from others.
fn inside_or_not() -> Result<Axis, Error> {
    let values: ArrayRef = Arc::new(StringArray::from(vec![Beside::INSIDE, OUTSIDE]));
    let declared = RecordBatch::try_from_iter([("met", values)]).map_err(Error::internal)?;
    Ok(Axis {
        coarser: vec![vec![]],
        declared: vec![declared],
    })
}

/// The measures of the question's totals, each once.
fn measures<'q>(question: &'q Question<'_>) -> Vec<&'q ColumnName> {
    let mut measures: Vec<&ColumnName> = Vec::new();
    for total in question.totals.iter() {
        if let TotalOf::Sum(measure) | TotalOf::Values(measure) = total
            && !measures.contains(&&measure.column)
        {
            measures.push(&measure.column);
        }
    }
    measures
}

/// Every table over `axes`; the finest one with the keys at `more`, too.
fn tables(gathered: &Gathered, axes: &[Axis], more: &[(usize, usize)]) -> Result<Tables, Error> {
    if gathered.cells() > MOST_CELLS {
        return Err(Error::TooManyCells { most: MOST_CELLS });
    }
    let table = |levels: Vec<usize>| {
        let more = if is_finest(&levels) { more } else { &[] };
        let table = gathered.table(axes, &levels, more)?;
        Ok((levels, table))
    };
    let tables = levels(axes).into_iter().map(table);
    tables
        .collect::<Result<_, ReleaseError>>()
        .map_err(Error::from)
}

impl Met<'_> {
    /// Takes all rows that meet.
    fn gathered(&self, adds: Vec<Adds>) -> Result<Gathered, Error> {
        // Record keys come with the rows.
        let mut gathering = Gathering::new(NoiseSecret::from_bytes([0; 32]), adds);
        let mut step = Step::of(self.members.len());
        let mut left = MOST_ROWS;
        self.flush(&mut step, &mut gathering)?;
        units(self.rows, |unit| {
            let is_in = unit.is_in(&self.presences);
            let takes_part = match self.inside {
                true => is_in,
                false => self.members.iter().all(|at| unit.is_at(*at)),
            };
            if !takes_part {
                return Ok(());
            }
            let record = self.record(unit);
            let mut failed = None;
            let goes_on = unit.ways(&self.members, &mut Vec::new(), &mut |taken| {
                left = left.saturating_sub(1);
                step.push(taken, unit.number, record, is_in);
                if step.units.len() >= STEP {
                    failed = self.flush(&mut step, &mut gathering).err();
                }
                left > 0 && failed.is_none()
            });
            match failed {
                Some(error) => Err(error),
                None if !goes_on => Err(Error::TooManyRows { most: MOST_ROWS }),
                None => Ok(()),
            }
        })?;
        self.flush(&mut step, &mut gathering)?;
        Ok(gathering.finish()?)
    }

    /// What is told of a unit's record key.
    fn record(&self, unit: &Unit<'_>) -> u64 {
        let mut told_by = self.told_by.iter().filter(|at| unit.is_at(**at));
        let told = told_by.next().and_then(|at| {
            let row = unit.spans.get(*at)?.start;
            let records = &self.rows.get(*at)?.records;
            records.values().get(row).copied()
        });
        told.map_or(0, u64::from)
    }

    /// Hands on what `step` holds; no rows have columns, too.
    fn flush(&self, step: &mut Step, gathering: &mut Gathering) -> Result<(), Error> {
        let taken = std::mem::replace(step, Step::of(self.members.len()));
        let rows = taken.units.len();
        let indices: Vec<UInt32Array> = taken.rows.into_iter().map(UInt32Array::from).collect();
        let column = |place: &Place| {
            let of = self
                .rows
                .get(place.member)
                .and_then(|r| r.columns.get(place.column));
            let of = of.ok_or_else(|| Error::internal("a column that was not sent"))?;
            match self.members.iter().position(|m| *m == place.member) {
                Some(at) => match indices.get(at) {
                    Some(rows) => take(of, rows, None).map_err(Error::internal),
                    None => Err(Error::internal("a member without rows")),
                },
                // A measure of a member whose rows are not taken: it adds nothing up.
                None => Ok(new_null_array(of.data_type(), rows)),
            }
        };
        let keys = self.keys.iter().map(column);
        let mut keys = keys.collect::<Result<Vec<ArrayRef>, Error>>()?;
        if !self.inside {
            let word = |is_in: bool| if is_in { Beside::INSIDE } else { OUTSIDE };
            let words = taken.is_in.into_iter().map(word).map(Some);
            keys.push(Arc::new(words.collect::<StringArray>()));
        }
        let values = self.values.iter().map(column);
        let values = values.collect::<Result<Vec<ArrayRef>, Error>>()?;
        let units: ArrayRef = Arc::new(UInt32Array::from(taken.units));
        let records = UInt64Array::from(taken.records);
        gathering.push_keyed(&keys, &units, &values, &records)?;
        match gathering.cells() > MOST_CELLS {
            true => Err(Error::TooManyCells { most: MOST_CELLS }),
            false => Ok(()),
        }
    }
}

/// Rows that meet, until there are enough to hand on.
struct Step {
    /// Of each member whose rows are taken, which.
    rows: Vec<Vec<Option<u32>>>,
    units: Vec<u32>,
    records: Vec<u64>,
    is_in: Vec<bool>,
}

impl Step {
    fn of(members: usize) -> Self {
        Self {
            rows: vec![vec![]; members],
            units: vec![],
            records: vec![],
            is_in: vec![],
        }
    }

    fn push(&mut self, taken: &[Option<u32>], unit: u32, record: u64, is_in: bool) {
        for (rows, row) in self.rows.iter_mut().zip(taken) {
            rows.push(*row);
        }
        self.units.push(unit);
        self.records.push(record);
        self.is_in.push(is_in);
    }
}
