//! TPC-H tables as plain Parquet files.

use anyhow::{Context as _, Result};
use arrow::array::{RecordBatch, RecordBatchReader};
use arrow::datatypes::{DataType, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::fs::File;
use std::path::{Path, PathBuf};
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator,
    PartSuppGenerator, RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow,
    SupplierArrow,
};

pub(crate) const TABLES: [&str; 8] = [
    "lineitem", "orders", "customer", "partsupp", "part", "supplier", "nation", "region",
];

/// Rows of a row group, as the nodes' own files have them.
const ROW_GROUP: usize = 256 * 1024;

/// The file of one table.
pub(crate) fn file(folder: &Path, table: &str) -> PathBuf {
    folder.join(format!("{table}.parquet"))
}

/// Writes what is missing of the eight tables.
pub(crate) fn generate(folder: &Path, scale: f64) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    for table in TABLES {
        let path = file(folder, table);
        if path.exists() {
            continue;
        }
        eprintln!("  generating {table}");
        let mut batches: Box<dyn RecordBatchReader> = match table {
            "lineitem" => Box::new(LineItemArrow::new(LineItemGenerator::new(scale, 1, 1))),
            "orders" => Box::new(OrderArrow::new(OrderGenerator::new(scale, 1, 1))),
            "customer" => Box::new(CustomerArrow::new(CustomerGenerator::new(scale, 1, 1))),
            "partsupp" => Box::new(PartSuppArrow::new(PartSuppGenerator::new(scale, 1, 1))),
            "part" => Box::new(PartArrow::new(PartGenerator::new(scale, 1, 1))),
            "supplier" => Box::new(SupplierArrow::new(SupplierGenerator::new(scale, 1, 1))),
            "nation" => Box::new(NationArrow::new(NationGenerator::new(scale, 1, 1))),
            _ => Box::new(RegionArrow::new(RegionGenerator::new(scale, 1, 1))),
        };
        write(&path, batches.as_mut())?;
    }
    Ok(())
}

/// Writes a Parquet file; a run that is cut short leaves none.
pub(crate) fn write(path: &Path, batches: &mut dyn RecordBatchReader) -> Result<()> {
    let part = path.with_extension("part");
    write_part(&part, batches).with_context(|| format!("cannot write `{}`", part.display()))?;
    Ok(std::fs::rename(&part, path)?)
}

fn write_part(path: &Path, batches: &mut dyn RecordBatchReader) -> Result<()> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .build();
    let mut writer = ArrowWriter::try_new(File::create(path)?, batches.schema(), Some(properties))?;
    for batch in batches {
        writer.write(&batch?)?;
    }
    writer.close()?;
    Ok(())
}

/// The columns of a table, from its file.
pub(crate) fn schema(folder: &Path, table: &str) -> Result<SchemaRef> {
    let file = File::open(file(folder, table))?;
    Ok(
        parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file)?
            .schema()
            .clone(),
    )
}

/// The type of a column in an import specification.
pub(crate) fn import_type(data_type: &DataType) -> Result<String> {
    Ok(match data_type {
        DataType::Int32 | DataType::Int64 => "integer".to_owned(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Date32 => "date".to_owned(),
        DataType::Utf8 | DataType::Utf8View => "text".to_owned(),
        other => anyhow::bail!("TPC-H has no column of type {other}"),
    })
}

/// Rows as text, sorted: what two engines' answers are compared by. Floats are rounded to nine
/// significant digits, since the order of a sum is not an engine's promise.
pub(crate) fn canonical(batches: &[RecordBatch]) -> Result<Vec<String>> {
    use arrow::array::AsArray as _;
    use arrow::util::display::{ArrayFormatter, FormatOptions};
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns = batch
            .columns()
            .iter()
            .map(|c| ArrayFormatter::try_new(c.as_ref(), &options))
            .collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let mut cells = Vec::with_capacity(columns.len());
            for (column, formatter) in batch.columns().iter().zip(&columns) {
                let cell = match column.as_primitive_opt::<arrow::datatypes::Float64Type>() {
                    Some(floats) if column.is_valid(row) => format!("{:.8e}", floats.value(row)),
                    _ => formatter.value(row).try_to_string()?,
                };
                cells.push(cell);
            }
            rows.push(cells.join("|"));
        }
    }
    rows.sort_unstable();
    Ok(rows)
}
