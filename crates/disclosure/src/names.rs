//! Numbers for what has the same values, in the order in which it was first seen.
//!
//! What is named comes from data, so that hashes are seeded at random. No number depends on the seed.

use crate::release::ReleaseError;
use arrow::array::{ArrayRef, AsArray, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::row::{RowConverter, SortField};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::hash::{BuildHasher, Hash};
use std::iter::repeat_n;

/// The number of each row, and the rows that had none yet.
pub(crate) type Numbered = (Vec<u32>, UInt32Array);

/// Numbers for the rows of some columns, which are always of the same number and types.
#[derive(Default)]
pub(crate) struct Names {
    columns: Vec<ColumnNames>,
    /// What has the same number in each column, unless there is one column alone. Rows of no column have one name.
    rows: Slices<u32>,
}

impl Names {
    /// Numbers so many rows of `columns`.
    ///
    /// Fails if the columns are others than before, and after four billion names.
    pub(crate) fn number(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
    ) -> Result<Numbered, ReleaseError> {
        if self.columns.is_empty() {
            self.columns = columns
                .iter()
                .map(ColumnNames::of)
                .collect::<Result<_, _>>()?;
        }
        match (columns, self.columns.as_mut_slice()) {
            ([column], [names]) => names.number(column),
            (columns, names) if columns.len() == names.len() => self.combined(columns, rows),
            _ => Err(ReleaseError::Shape),
        }
    }

    fn combined(&mut self, columns: &[ArrayRef], rows: usize) -> Result<Numbered, ReleaseError> {
        let (names, width) = (&mut self.rows, columns.len());
        if width == 0 {
            return numbered(repeat_n(&[][..], rows), names.len(), |row| {
                names.number(row)
            });
        }
        let mut all = vec![0; rows.saturating_mul(width)];
        for (at, (column, names)) in columns.iter().zip(&mut self.columns).enumerate() {
            let (numbers, _) = names.number(column)?;
            let places = all.iter_mut().skip(at).step_by(width);
            places
                .zip(numbers)
                .for_each(|(place, number)| *place = number);
        }
        numbered(all.chunks_exact(width), names.len(), |row| {
            names.number(row)
        })
    }

    /// How many names there are.
    pub(crate) fn len(&self) -> usize {
        match self.columns.as_slice() {
            [column] => column.kind.len(),
            _ => self.rows.len(),
        }
    }

    /// About how many bytes of memory they take.
    pub(crate) fn bytes(&self) -> usize {
        let columns = self.columns.iter().map(|c| c.kind.bytes());
        columns.fold(self.rows.bytes(), usize::saturating_add)
    }
}

/// Numbers for the values of one column, NULL among them.
struct ColumnNames {
    data_type: DataType,
    kind: Kind,
}

/// What stands for a value.
enum Kind {
    /// Its 64 bits; nothing for NULL.
    Whole(Slices<i64>),
    /// Its bytes. An empty text is not NULL, which has a number beside them.
    Text {
        names: Slices<u8>,
        null: Option<u32>,
    },
    /// Its form in Arrow's rows.
    Row {
        converter: RowConverter,
        names: Slices<u8>,
    },
}

impl ColumnNames {
    fn of(column: &ArrayRef) -> Result<Self, ReleaseError> {
        let data_type = column.data_type().clone();
        let kind = Kind::of(&data_type)?;
        Ok(Self { data_type, kind })
    }

    fn number(&mut self, column: &ArrayRef) -> Result<Numbered, ReleaseError> {
        // Invariant: a value is not taken for one of another type that looks alike.
        if *column.data_type() != self.data_type {
            return Err(ReleaseError::Shape);
        }
        let known = self.kind.len();
        match &mut self.kind {
            Kind::Whole(names) => {
                let whole = cast(column, &DataType::Int64)?;
                let values = whole.as_primitive::<Int64Type>().iter();
                numbered(values, known, |value| names.number(value.as_slice()))
            }
            Kind::Text { names, null } => {
                let texts = cast(column, &DataType::Utf8View)?;
                numbered(texts.as_string_view().iter(), known, |text| match text {
                    Some(text) => names.number(text.as_bytes()),
                    None => names.without(null),
                })
            }
            Kind::Row { converter, names } => {
                let rows = converter.convert_columns(std::slice::from_ref(column))?;
                numbered(rows.iter(), known, |row| names.number(row.as_ref()))
            }
        }
    }
}

impl Kind {
    fn of(data_type: &DataType) -> Result<Self, ReleaseError> {
        use DataType::{Boolean, Date32, Date64, LargeUtf8, Timestamp, UInt64, Utf8, Utf8View};
        Ok(match data_type {
            // Not all of them are whole numbers of 64 bits with a sign.
            UInt64 => Self::row(data_type)?,
            Boolean | Date32 | Date64 | Timestamp(..) => Self::Whole(Slices::default()),
            whole if whole.is_integer() => Self::Whole(Slices::default()),
            Utf8 | LargeUtf8 | Utf8View => Self::Text {
                names: Slices::default(),
                null: None,
            },
            other => Self::row(other)?,
        })
    }

    fn row(data_type: &DataType) -> Result<Self, ReleaseError> {
        Ok(Self::Row {
            converter: RowConverter::new(vec![SortField::new(data_type.clone())])?,
            names: Slices::default(),
        })
    }

    fn len(&self) -> usize {
        match self {
            Self::Whole(names) => names.len(),
            Self::Text { names, .. } | Self::Row { names, .. } => names.len(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Whole(names) => names.bytes(),
            Self::Text { names, .. } | Self::Row { names, .. } => names.bytes(),
        }
    }
}

/// Numbers for slices, which are kept one after the other.
struct Slices<T> {
    hasher: RandomState,
    numbers: HashTable<u32>,
    content: Vec<T>,
    /// Where in the content each slice ends, by its number.
    ends: Vec<usize>,
}

impl<T> Default for Slices<T> {
    fn default() -> Self {
        Self {
            hasher: RandomState::default(),
            numbers: HashTable::new(),
            content: vec![],
            ends: vec![],
        }
    }
}

impl<T: Copy + Eq + Hash> Slices<T> {
    fn number(&mut self, slice: &[T]) -> Result<u32, ReleaseError> {
        let (content, ends, hasher) = (&self.content, &self.ends, &self.hasher);
        let of = |number: &u32| slice_at(content, ends, *number as usize);
        let hash = hasher.hash_one(slice);
        let is = |number: &u32| of(number) == slice;
        let entry = (self.numbers).entry(hash, is, |number| hasher.hash_one(of(number)));
        let free = match entry {
            Entry::Occupied(known) => return Ok(*known.get()),
            Entry::Vacant(free) => free,
        };
        let next = u32::try_from(ends.len()).map_err(|_| ReleaseError::Shape)?;
        free.insert(next);
        self.content.extend_from_slice(slice);
        self.ends.push(self.content.len());
        Ok(next)
    }

    /// The number of what is no slice, which is `number` from the first time on.
    fn without(&mut self, number: &mut Option<u32>) -> Result<u32, ReleaseError> {
        if let Some(number) = number {
            return Ok(*number);
        }
        let next = u32::try_from(self.ends.len()).map_err(|_| ReleaseError::Shape)?;
        self.ends.push(self.content.len());
        *number = Some(next);
        Ok(next)
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn bytes(&self) -> usize {
        /// Of a number, and of its place in the table, which is filled to seven eighths.
        const NUMBER: usize = size_of::<u32>() + 2;
        let numbers = self.numbers.capacity().saturating_mul(NUMBER);
        let content = self.content.capacity().saturating_mul(size_of::<T>());
        let ends = self.ends.capacity().saturating_mul(size_of::<usize>());
        numbers.saturating_add(content).saturating_add(ends)
    }
}

fn slice_at<'a, T>(content: &'a [T], ends: &[usize], number: usize) -> &'a [T] {
    let start = number.checked_sub(1).map_or(0, |before| ends[before]);
    &content[start..ends[number]]
}

/// Numbers values in order, of which so many are `known`; a value that is as the one before has its number.
fn numbered<V: Copy + PartialEq>(
    values: impl ExactSizeIterator<Item = V>,
    mut known: usize,
    mut number: impl FnMut(V) -> Result<u32, ReleaseError>,
) -> Result<Numbered, ReleaseError> {
    let (mut numbers, mut new) = (Vec::with_capacity(values.len()), Vec::new());
    let mut before: Option<(V, u32)> = None;
    for (row, value) in values.enumerate() {
        let number = match before {
            Some((same, number)) if same == value => number,
            _ => number(value)?,
        };
        before = Some((value, number));
        if number as usize == known {
            known += 1;
            new.push(u32::try_from(row).map_err(|_| ReleaseError::Shape)?);
        }
        numbers.push(number);
    }
    Ok((numbers, UInt32Array::from(new)))
}
