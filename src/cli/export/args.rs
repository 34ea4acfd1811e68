//! Flags of `export`.

use std::path::PathBuf;

use clap::Args;

/// Write a checkpoint as a Hugging Face ImageGPT folder (config.json, model.safetensors)
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    /// The checkpoint, or the run folder to take the latest one of
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// The Hugging Face folder to write
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Leave out the biases of zero that Hugging Face's layers expect; its library then warns, and since 5.24 fills them with NaN
    #[arg(long)]
    pub no_biases: bool,
    /// Split the weights into files of at most this size, with an index: 5GB, 500MB, 1GiB, or bytes
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = size)]
    pub max_shard_size: u64,
    /// Replace the checkpoint that is at --out
    #[arg(long)]
    pub force: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `5GB`, `500MB`, `1GiB` or a number of bytes, in any case.
fn size(text: &str) -> Result<u64, String> {
    let units =
        [("gib", 1 << 30), ("mib", 1 << 20), ("kib", 1 << 10), ("gb", 1_000_000_000), ("mb", 1_000_000), ("kb", 1000)];
    let lower = text.trim().to_ascii_lowercase();
    let unit = units.iter().find_map(|(unit, bytes)| Some((lower.strip_suffix(unit)?.trim(), *bytes)));
    let (number, bytes) = unit.unwrap_or((&lower, 1_u64));
    let size = number.parse::<u64>().ok().and_then(|number| number.checked_mul(bytes)).filter(|size| *size > 0);
    size.ok_or_else(|| "give a whole number above 0 with GB, MB, KB, GiB, MiB or KiB, such as 5GB or 500MB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_transformers_reads_them() {
        for (text, bytes) in
            [("5GB", 5_000_000_000), ("500mb", 500_000_000), ("1GiB", 1 << 30), ("2 KB", 2000), ("77", 77)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "GB", "0MB", "-1GB", "1.5GB", "5TB", "99999999999GB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
