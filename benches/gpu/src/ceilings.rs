//! What the card itself can do, measured in the same run: everything else is a part of it.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use cudarc::driver::{CudaFunction, CudaModule, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;
use serde::{Deserialize, Serialize};

use crate::effort::Effort;
use crate::graph::Graph;
use crate::stats::Spread;
use crate::stream::Stream;

/// Empty launches of the graph that says what a node costs.
const NODES: usize = 1000;

/// Rates that a card reaches.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ceilings {
    /// Bytes a second of a copy, read and written.
    pub copy: Spread,
    /// Bytes a second read from the second cache.
    pub l2: Spread,
    /// FLOP/s of `mma.sync` on bf16, operands in registers.
    pub mma: Spread,
    /// FLOP/s of `wgmma` on bf16, operands in shared memory; nothing where the card has it not.
    pub wgmma: Option<Spread>,
    /// FLOP/s of fused multiply-adds in f32.
    pub ffma: Spread,
    /// Microseconds from one empty node of a graph to the next.
    pub node_us: Spread,
    /// Milliseconds of a graph of one empty node, which is taken away from every time.
    pub empty_ms: f64,
}

impl Ceilings {
    /// FLOP/s of tensor cores by the faster way.
    pub fn tensor(&self) -> f64 {
        self.wgmma.map_or(self.mma.median, |wgmma| wgmma.median.max(self.mma.median))
    }

    /// Microseconds of the fastest that could do `flops` on tensor cores and move `bytes`, and which of the two is the limit.
    pub fn least_us(&self, flops: f64, bytes: f64) -> (f64, &'static str) {
        let (compute, memory) = (flops / self.tensor() * 1e6, bytes / self.copy.median * 1e6);
        if compute > memory { (compute, "tensor cores") } else { (memory, "memory") }
    }
}

#[cfg(ceilings)]
const IMAGES: Option<(&[u8], &[u8])> = Some((
    include_bytes!(concat!(env!("OUT_DIR"), "/ceilings.fatbin")),
    include_bytes!(concat!(env!("OUT_DIR"), "/wgmma.fatbin")),
));
#[cfg(not(ceilings))]
const IMAGES: Option<(&[u8], &[u8])> = None;

/// The loops, loaded.
struct Loops<'a> {
    stream: &'a Stream,
    effort: &'a Effort,
    module: Arc<CudaModule>,
    /// Blocks of a grid that fills the card: as many as run at once for the loops in registers.
    blocks: u32,
    empty_ms: f64,
}

/// Measures all of them on a card with `multiprocessors` and `l2` bytes of second cache.
///
/// # Errors
/// Without a compiler in this build, and when the driver refuses.
pub fn measure(
    stream: &Stream,
    effort: &Effort,
    capability: (i32, i32),
    multiprocessors: u32,
    l2: usize,
) -> Result<Ceilings> {
    let Some((image, wgmma_image)) = IMAGES else {
        bail!("this build has no kernels: install the compiler with `cargo xtask toolkit` and build again");
    };
    let load = |image: &[u8]| {
        stream.context.load_module(Ptx::from_binary(image.to_vec())).context("the ceilings' kernels cannot be loaded")
    };
    let mut loops = Loops {
        stream,
        effort,
        module: load(image)?,
        blocks: (4 * multiprocessors).min(effort.most_blocks),
        empty_ms: 0.0,
    };

    // What a graph and its events cost, then what they are taken away from.
    let (empty_ms, node_us) = loops.nodes()?;
    loops.empty_ms = empty_ms;
    let wgmma = match capability {
        (9, 0) => Some(loops.wgmma(&load(wgmma_image)?)?),
        _ => None,
    };
    Ok(Ceilings {
        copy: loops.copy()?,
        l2: loops.read(l2)?,
        mma: loops.mma()?,
        wgmma,
        ffma: loops.ffma()?,
        node_us,
        empty_ms,
    })
}

impl Loops<'_> {
    fn function(&self, name: &str) -> Result<CudaFunction> {
        self.module.load_function(name).with_context(|| format!("the kernel {name}"))
    }

    /// Seconds of a launch of `work`.
    fn seconds(&self, mut work: impl FnMut(usize) -> Result<()>) -> Result<Spread> {
        work(0)?;
        let launches = self.effort.launches(self.stream.elapsed(|| work(1))?);
        let graph = self.stream.capture((), launches, |(), launch| work(launch))?;
        let mut times = Vec::new();
        for round in 0..=self.effort.repeats {
            let seconds = (graph.milliseconds()? - self.empty_ms) / 1e3 / launches as f64;
            // The first warms up; the simulator's clock may say nothing at all.
            if round > 0 {
                times.push(seconds.max(1e-9));
            }
        }
        Ok(Spread::of(&times))
    }

    fn nodes(&self) -> Result<(f64, Spread)> {
        let nothing = self.function("nothing")?;
        let launch = |_: &(), _| {
            // SAFETY: the kernel takes nothing and does nothing.
            unsafe { self.stream.stream.launch_builder(&nothing).launch(config(1, 32)) }?;
            Ok(())
        };
        let many = NODES.min(self.effort.most_launches);
        let (one, all) = (self.stream.capture((), 1, launch)?, self.stream.capture((), many, launch)?);

        let (mut empty, mut gaps) = (Vec::new(), Vec::new());
        for _ in 0..=self.effort.repeats {
            let alone = one.milliseconds()?;
            empty.push(alone);
            gaps.push((all.milliseconds()? - alone) * 1e3 / (many - 1) as f64);
        }
        Ok((Spread::of(&empty[1..]).median, Spread::of(&gaps[1..])))
    }

    fn copy(&self) -> Result<Spread> {
        let bytes = self.effort.copied;
        let from = self.stream.stream.alloc_zeros::<u8>(bytes)?;
        let to = self.stream.stream.alloc_zeros::<u8>(bytes)?;
        let (copy, count) = (self.function("copy")?, (bytes / 16) as u64);
        let seconds = self.seconds(|_| {
            // SAFETY: both buffers have `count` vectors of 16 bytes.
            unsafe {
                let mut launch = self.stream.stream.launch_builder(&copy);
                launch.arg(&from).arg(&to).arg(&count).launch(config(2 * self.blocks, 256))
            }?;
            Ok(())
        })?;
        Ok(seconds.inverse(2.0 * bytes as f64))
    }

    /// A quarter of the cache, which is in both halves of a divided one.
    fn read(&self, l2: usize) -> Result<Spread> {
        let bytes = (l2 / 4).clamp(1 << 12, self.effort.copied.max(1 << 12));
        let from = self.stream.stream.alloc_zeros::<u8>(bytes)?;
        let sink = self.stream.stream.alloc_zeros::<u32>(self.blocks as usize * 256)?;
        let (read, count, rounds) = (self.function("read")?, (bytes / 16) as u64, 2_i32);
        let seconds = self.seconds(|_| {
            // SAFETY: `count` vectors of 16 bytes, and a word of the sink for each thread.
            unsafe {
                let mut launch = self.stream.stream.launch_builder(&read);
                launch.arg(&from).arg(&sink).arg(&count).arg(&rounds).launch(config(self.blocks, 256))
            }?;
            Ok(())
        })?;
        Ok(seconds.inverse(f64::from(rounds) * bytes as f64 * f64::from(self.blocks)))
    }

    fn mma(&self) -> Result<Spread> {
        let seconds = self.in_registers(&self.function("mma_loop")?, 256, None)?;
        let warps = f64::from(self.blocks) * 8.0;
        Ok(seconds.inverse(warps * f64::from(self.effort.rounds) * 8.0 * 2.0 * 16.0 * 8.0 * 16.0))
    }

    fn wgmma(&self, module: &Arc<CudaModule>) -> Result<Spread> {
        let seconds = self.in_registers(&module.load_function("wgmma_loop")?, 128, None)?;
        let groups = f64::from(self.blocks);
        Ok(seconds.inverse(groups * f64::from(self.effort.rounds) * 4.0 * 2.0 * 64.0 * 128.0 * 16.0))
    }

    fn ffma(&self) -> Result<Spread> {
        let seconds = self.in_registers(&self.function("ffma_loop")?, 256, Some(0.999_f32))?;
        let threads = f64::from(self.blocks) * 256.0;
        Ok(seconds.inverse(threads * f64::from(self.effort.rounds) * 16.0 * 2.0))
    }

    /// Seconds of one of the loops that take a sink, perhaps a factor, and a number of rounds.
    fn in_registers(&self, function: &CudaFunction, threads: u32, factor: Option<f32>) -> Result<Spread> {
        let sink = self.stream.stream.alloc_zeros::<f32>((self.blocks * threads) as usize)?;
        self.seconds(|_| {
            let mut launch = self.stream.stream.launch_builder(function);
            launch.arg(&sink);
            if let Some(factor) = &factor {
                launch.arg(factor);
            }
            launch.arg(&self.effort.rounds);
            // SAFETY: the sink has a float for each thread.
            unsafe { launch.launch(config(self.blocks, threads)) }?;
            Ok(())
        })
    }
}

fn config(blocks: u32, threads: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 }
}
