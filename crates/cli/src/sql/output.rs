//! Results as a table, CSV or JSON lines.

use anyhow::Result;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};
use std::io::{BufWriter, Stdout, Write};

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns for people.
    Table,
    /// RFC 4180 with a header.
    Csv,
    /// One JSON object a line.
    Json,
}

/// Rows that a table is cut into, so that long results appear as they come.
const TABLE_ROWS: usize = 1_000;

/// Writes batches to standard output as they come.
pub(super) struct Sink<W: Write = BufWriter<Stdout>> {
    schema: SchemaRef,
    form: Form<W>,
}

enum Form<W: Write> {
    Table {
        out: W,
        rows: Vec<Vec<String>>,
        shown: bool,
    },
    Csv(Box<arrow::csv::Writer<W>>),
    Json(arrow::json::LineDelimitedWriter<W>),
}

impl Sink {
    pub(super) fn new(format: Format, schema: SchemaRef) -> Self {
        Self::to(BufWriter::new(std::io::stdout()), format, schema)
    }
}

impl<W: Write> Sink<W> {
    fn to(out: W, format: Format, schema: SchemaRef) -> Self {
        let form = match format {
            Format::Table => Form::Table {
                out,
                rows: Vec::new(),
                shown: false,
            },
            Format::Csv => Form::Csv(Box::new(
                arrow::csv::WriterBuilder::new()
                    .with_header(true)
                    .build(out),
            )),
            Format::Json => Form::Json(arrow::json::LineDelimitedWriter::new(out)),
        };
        Self { schema, form }
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match &mut self.form {
            Form::Csv(writer) => writer.write(batch)?,
            Form::Json(writer) => writer.write(batch)?,
            Form::Table { out, rows, shown } => {
                let options = FormatOptions::default().with_null("");
                let columns = batch
                    .columns()
                    .iter()
                    .map(|c| ArrayFormatter::try_new(c.as_ref(), &options))
                    .collect::<Result<Vec<_>, _>>()?;
                for row in 0..batch.num_rows() {
                    rows.push(
                        columns
                            .iter()
                            .map(|c| c.value(row).try_to_string())
                            .collect::<Result<_, _>>()?,
                    );
                    if rows.len() == TABLE_ROWS {
                        print_table(out, &self.schema, rows)?;
                        *shown = true;
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<()> {
        match self.form {
            Form::Table {
                mut out,
                mut rows,
                shown,
            } => {
                if !shown || !rows.is_empty() {
                    print_table(&mut out, &self.schema, &mut rows)?;
                }
                out.flush()?;
            }
            Form::Csv(mut writer) => {
                // An empty answer still has its header.
                writer.write(&RecordBatch::new_empty(self.schema))?;
                writer.into_inner().flush()?;
            }
            Form::Json(mut writer) => {
                writer.finish()?;
                writer.into_inner().flush()?;
            }
        }
        Ok(())
    }
}

fn print_table(
    out: &mut impl Write,
    schema: &SchemaRef,
    rows: &mut Vec<Vec<String>>,
) -> Result<()> {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    table.set_header(schema.fields().iter().map(|f| f.name()));
    for row in rows.drain(..) {
        table.add_row(row);
    }
    for (i, field) in schema.fields().iter().enumerate() {
        if field.data_type().is_numeric()
            && let Some(column) = table.column_mut(i)
        {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    writeln!(out, "{table}")?;
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use std::sync::Arc;

    fn written(format: Format, empty: bool) -> String {
        let batch = RecordBatch::try_from_iter([
            (
                "ward",
                Arc::new(StringArray::from(vec![Some("Kinson"), None])) as _,
            ),
            ("n", Arc::new(Int64Array::from(vec![Some(12), None])) as _),
        ])
        .unwrap();
        let mut out = Vec::new();
        let mut sink = Sink::to(&mut out, format, batch.schema());
        if !empty {
            sink.write(&batch).unwrap();
        }
        sink.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn csv_has_a_header_once_also_when_empty() {
        assert_eq!(written(Format::Csv, false), "ward,n\nKinson,12\n,\n");
        assert_eq!(written(Format::Csv, true), "ward,n\n");
    }

    #[test]
    fn json_is_one_object_a_line() {
        assert_eq!(
            written(Format::Json, false),
            "{\"ward\":\"Kinson\",\"n\":12}\n{}\n"
        );
        assert_eq!(written(Format::Json, true), "");
    }

    #[test]
    fn a_suppressed_value_is_an_empty_cell_of_the_table() {
        let table = written(Format::Table, false);
        assert!(
            table.contains("Kinson") && table.contains("12") && !table.contains('0'),
            "{table}"
        );
    }
}
