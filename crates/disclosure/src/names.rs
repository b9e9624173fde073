//! Numbers for what has the same values, in the order in which it was first seen.
//!
//! What is named comes from data, so that hashes are seeded at random. No number depends on the seed.

use crate::release::ReleaseError;
use arrow::array::{Array, ArrayRef, AsArray, ByteView, StringViewArray, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::row::{RowConverter, SortField};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::hash::BuildHasher;
use std::iter::repeat_n;

/// The number of each row, and the rows that had none yet.
pub(crate) type Numbered = (Vec<u32>, UInt32Array);

/// Numbers for the rows of some columns, which are always of the same number and types.
#[derive(Default)]
pub(crate) struct Names {
    columns: Vec<ColumnNames>,
    /// Each for what has the same number so far and in as many further columns as fit in a word.
    combined: Vec<Words>,
}

/// What stands for a value, or for several: two are the same if and only if the values are.
type Word = u128;

/// NULL's. No value's is like it.
const NULL: Word = Word::MAX;

/// Texts of so many bytes lie in their view, which begins with their length.
const SHORT: u32 = 12;

/// Columns whose numbers go into a word beside one.
const BESIDE: usize = 3;

impl Names {
    /// Numbers so many rows of `columns`.
    ///
    /// Fails if the columns are others than before, and after four billion names.
    pub(crate) fn number(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
    ) -> Result<Numbered, ReleaseError> {
        if self.columns.is_empty() && self.combined.is_empty() {
            self.columns = columns
                .iter()
                .map(ColumnNames::of)
                .collect::<Result<_, _>>()?;
            let words = match columns.len() {
                0 => 1,
                columns => (columns - 1).div_ceil(BESIDE),
            };
            self.combined.resize_with(words, Words::default);
        }
        if self.columns.len() != columns.len() {
            return Err(ReleaseError::Shape);
        }
        let numbered = self
            .columns
            .iter_mut()
            .zip(columns)
            .map(|(names, c)| names.number(c));
        let mut numbered = numbered.collect::<Result<Vec<_>, _>>()?.into_iter();
        let Some(mut combined) = numbered.next() else {
            // Rows of no column have one name.
            let words = self.combined.first_mut().ok_or(ReleaseError::Shape)?;
            return words.number(repeat_n(0, rows));
        };
        let others: Vec<Numbered> = numbered.collect();
        for (beside, words) in others.chunks(BESIDE).zip(&mut self.combined) {
            let word = |row: usize| {
                let first = Word::from(combined.0[row]);
                beside.iter().fold(first, |word, other| {
                    word << u32::BITS | Word::from(other.0[row])
                })
            };
            combined = words.number((0..rows).map(word))?;
        }
        Ok(combined)
    }

    /// How many names there are.
    pub(crate) fn len(&self) -> usize {
        let column = || self.columns.first().map(|c| &c.words);
        self.combined.last().or_else(column).map_or(0, Words::len)
    }

    /// About how many bytes of memory they take.
    pub(crate) fn bytes(&self) -> usize {
        let columns = self.columns.iter().map(ColumnNames::bytes);
        let combined = self.combined.iter().map(Words::bytes);
        columns.chain(combined).fold(0, usize::saturating_add)
    }
}

/// Numbers for the values of one column, NULL among them.
struct ColumnNames {
    data_type: DataType,
    kind: Kind,
    words: Words,
    /// What fits in no word; it has its number here, which does.
    long: Slices,
}

/// What words are made of.
enum Kind {
    /// 64 bits.
    Whole,
    /// Bytes; an empty text is not NULL.
    Text,
    /// The form in Arrow's rows.
    Row(RowConverter),
}

impl ColumnNames {
    fn of(column: &ArrayRef) -> Result<Self, ReleaseError> {
        let data_type = column.data_type().clone();
        Ok(Self {
            kind: Kind::of(&data_type)?,
            data_type,
            words: Words::default(),
            long: Slices::default(),
        })
    }

    fn number(&mut self, column: &ArrayRef) -> Result<Numbered, ReleaseError> {
        // Invariant: a value is not taken for one of another type that looks alike.
        if *column.data_type() != self.data_type {
            return Err(ReleaseError::Shape);
        }
        match &self.kind {
            Kind::Whole => {
                let whole = cast(column, &DataType::Int64)?;
                let word =
                    |value: Option<i64>| value.map_or(NULL, |v| Word::from(v.cast_unsigned()));
                let values = whole.as_primitive::<Int64Type>().iter();
                self.words.number(values.map(word))
            }
            Kind::Text => {
                let texts = cast(column, &DataType::Utf8View)?;
                let words = self.long.texts(texts.as_string_view())?;
                self.words.number(words.into_iter())
            }
            Kind::Row(converter) => {
                let rows = converter.convert_columns(std::slice::from_ref(column))?;
                let words = rows
                    .iter()
                    .map(|row| self.long.number(row.as_ref()).map(Word::from));
                self.words
                    .number(words.collect::<Result<Vec<_>, _>>()?.into_iter())
            }
        }
    }

    fn bytes(&self) -> usize {
        self.words.bytes().saturating_add(self.long.bytes())
    }
}

impl Kind {
    fn of(data_type: &DataType) -> Result<Self, ReleaseError> {
        use DataType::{Boolean, Date32, Date64, LargeUtf8, Timestamp, UInt64, Utf8, Utf8View};
        Ok(match data_type {
            Boolean | Date32 | Date64 | Timestamp(..) => Self::Whole,
            // Those without a sign do not all fit in 64 bits that have one.
            whole if whole.is_integer() && *whole != UInt64 => Self::Whole,
            Utf8 | LargeUtf8 | Utf8View => Self::Text,
            other => Self::Row(RowConverter::new(vec![SortField::new(other.clone())])?),
        })
    }
}

/// Numbers for words.
#[derive(Default)]
struct Words {
    hasher: RandomState,
    numbers: HashTable<u32>,
    /// By their numbers.
    words: Vec<Word>,
}

impl Words {
    /// Numbers one after the other; a word that is as the one before has its number.
    fn number(
        &mut self,
        words: impl ExactSizeIterator<Item = Word>,
    ) -> Result<Numbered, ReleaseError> {
        let (mut numbers, mut new) = (Vec::with_capacity(words.len()), Vec::new());
        let mut before = None;
        for (row, word) in words.enumerate() {
            let number = match before {
                Some((same, number)) if same == word => number,
                _ => {
                    let known = self.len();
                    let number = self.number_of(word)?;
                    if self.len() > known {
                        new.push(u32::try_from(row).map_err(|_| ReleaseError::Shape)?);
                    }
                    number
                }
            };
            before = Some((word, number));
            numbers.push(number);
        }
        Ok((numbers, UInt32Array::from(new)))
    }

    fn number_of(&mut self, word: Word) -> Result<u32, ReleaseError> {
        let (words, hasher) = (&self.words, &self.hasher);
        let of = |number: &u32| words[*number as usize];
        let hash = hasher.hash_one(word);
        let entry = (self.numbers).entry(hash, |n| of(n) == word, |n| hasher.hash_one(of(n)));
        let free = match entry {
            Entry::Occupied(known) => return Ok(*known.get()),
            Entry::Vacant(free) => free,
        };
        let next = u32::try_from(words.len()).map_err(|_| ReleaseError::Shape)?;
        free.insert(next);
        self.words.push(word);
        Ok(next)
    }

    fn len(&self) -> usize {
        self.words.len()
    }

    fn bytes(&self) -> usize {
        let words = self.words.capacity().saturating_mul(size_of::<Word>());
        bytes_of(&self.numbers).saturating_add(words)
    }
}

/// Numbers for what is longer than a word, which is kept one after the other.
#[derive(Default)]
struct Slices {
    hasher: RandomState,
    numbers: HashTable<u32>,
    content: Vec<u8>,
    /// Where in the content each ends, by its number.
    ends: Vec<usize>,
}

impl Slices {
    /// The words of texts.
    fn texts(&mut self, texts: &StringViewArray) -> Result<Vec<Word>, ReleaseError> {
        /// The length that no text has which lies in its view.
        const LONG: Word = SHORT as Word + 1;
        let word = |(row, view): (usize, &Word)| {
            if texts.is_null(row) {
                return Ok(NULL);
            }
            match ByteView::from(*view).length {
                0..=SHORT => Ok(*view),
                _ => {
                    let number = self.number(texts.value(row).as_bytes())?;
                    Ok(Word::from(number) << u32::BITS | LONG)
                }
            }
        };
        texts.views().iter().enumerate().map(word).collect()
    }

    fn number(&mut self, slice: &[u8]) -> Result<u32, ReleaseError> {
        let (content, ends, hasher) = (&self.content, &self.ends, &self.hasher);
        let of = |number: &u32| slice_at(content, ends, *number as usize);
        let hash = hasher.hash_one(slice);
        let entry = (self.numbers).entry(hash, |n| of(n) == slice, |n| hasher.hash_one(of(n)));
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

    fn bytes(&self) -> usize {
        let ends = self.ends.capacity().saturating_mul(size_of::<usize>());
        let content = self.content.capacity().saturating_add(ends);
        bytes_of(&self.numbers).saturating_add(content)
    }
}

fn slice_at<'a>(content: &'a [u8], ends: &[usize], number: usize) -> &'a [u8] {
    let start = number.checked_sub(1).map_or(0, |before| ends[before]);
    &content[start..ends[number]]
}

fn bytes_of(numbers: &HashTable<u32>) -> usize {
    /// Of a number, and of its place in the table, which is filled to seven eighths.
    const EACH: usize = size_of::<u32>() + 2;
    numbers.capacity().saturating_mul(EACH)
}
