//! The rows: an op at a shape, with operands, the least that it could do, a check, and who else can do it.

mod attention;
mod decode;
mod embedding;
mod exact_attention;
mod gemm;
mod loss;
mod mlp;
mod norm;
mod optimizer;
mod step;

use igpt_engine::device::CudaDevice;

use crate::ceilings::Ceilings;
use crate::check::Checked;
use crate::effort::Effort;
use crate::graph::{Graph, Recorded, Sum, Work, race};
use crate::normals::Normals;
use crate::peers::Peers;
use crate::peers::cublaslt::Product;
use crate::report::{Peer, Row};
use crate::stats::Spread;

/// What all rows need.
pub struct Bench<'a> {
    pub device: &'a CudaDevice,
    pub effort: &'a Effort,
    pub ceilings: &'a Ceilings,
    pub peers: &'a Peers,
    pub normals: Normals,
    pub rows: Vec<Row>,
    /// Only ops with this in their names are run.
    pub only: String,
}

/// An op at a shape, before it is run.
pub struct Case {
    pub op: String,
    pub model: String,
    pub shape: String,
    pub flops: f64,
    pub bytes: f64,
}

/// Its operands, and what is done with them.
pub struct Prepared<'a> {
    pub checked: Checked,
    /// Works whose times are added or taken away.
    pub works: Vec<(f64, Work<'a>)>,
    pub sets: usize,
    /// The GEMM that a library can do as well.
    pub product: Option<Product>,
}

impl<'a> Bench<'a> {
    /// Runs all of them.
    pub fn all(&mut self) {
        self.gemms();
        self.attention();
        self.norms();
        self.losses();
        self.optimizer();
        self.embeddings();
        self.decoding();
        self.steps();
    }

    /// Runs one row; what goes wrong is written into it, and the next one runs.
    fn row(&mut self, case: Case, prepare: impl FnOnce(&mut Normals) -> igpt_engine::device::Result<Prepared<'a>>) {
        let Some(mut row) = self.start(case) else { return };
        let outcome = prepare(&mut self.normals).map_err(Into::into).and_then(|prepared| {
            row.checked = Some(prepared.checked);
            self.time(prepared, &mut row)
        });
        self.finish(row, outcome);
    }

    /// A row without a time, if it is wanted.
    fn start(&self, case: Case) -> Option<Row> {
        let Case { op, model, shape, flops, bytes } = case;
        if !op.contains(&self.only) {
            return None;
        }
        eprintln!("{op}, {model}, {shape}");
        let (least_us, limit) = self.ceilings.least_us(flops, bytes);
        let limit = limit.to_owned();
        let (time_us, checked, not_run, peers, more) = (None, None, None, Vec::new(), Vec::new());
        Some(Row { op, model, shape, flops, bytes, least_us, limit, time_us, checked, peers, more, not_run })
    }

    /// Notes the row, and what went wrong in it.
    fn finish(&mut self, mut row: Row, outcome: anyhow::Result<()>) {
        if let Some(checked) = row.checked.filter(|checked| !checked.holds()) {
            row.not_run = Some(format!("WRONG: error {:.1e}, {:.1e} allowed", checked.error, checked.tolerance));
        }
        if let Err(error) = outcome {
            row.not_run = Some(format!("not run: {error:#}").replace('|', "/").replace('\n', " "));
        }
        self.rows.push(row);
    }

    fn time(&self, prepared: Prepared<'a>, row: &mut Row) -> anyhow::Result<()> {
        let Prepared { checked, works, sets, product } = prepared;
        if !checked.holds() {
            return Ok(());
        }

        // Ours, then the libraries.
        let mut ours: Sum<'_> = Vec::new();
        for (sign, work) in works {
            let graph: Box<dyn Graph> = Box::new(Recorded::new(self.device, self.effort, sets, work)?);
            ours.push((sign, graph));
        }
        let mut competitors = vec![ours];
        if let Some(product) = product {
            match self.peers.gemm(&product, self.effort, sets) {
                Ok(graph) => {
                    row.peers.push(Peer { name: "cuBLASLt".to_owned(), time_us: None, not_run: None });
                    competitors.push(vec![(1.0, graph)]);
                }
                Err(why) => row.peers.push(Peer::absent("cuBLASLt", why)),
            }
        }

        let times = race(&competitors, self.ceilings.empty_ms, self.effort.repeats)?;
        let ours = Spread::of(&times[0]);
        match ours.median > 0.0 {
            true => row.time_us = Some(ours),
            false => row.not_run = Some("not run: the difference of two graphs is within their noise".to_owned()),
        }
        for (peer, times) in row.peers.iter_mut().zip(&times[1..]) {
            peer.time_us = Some(Spread::of(times));
        }
        Ok(())
    }
}
