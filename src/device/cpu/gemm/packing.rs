//! Packing by vectors, for every kind of vector.

/// Defines `pack`, which is [`Kernel::pack`](super::kernel::Kernel::pack) on processors with `$features`, of the caller's `LANES`, of its `load`,
/// the first lanes of a slice and zeros, and of its `transpose` of as many vectors as they have lanes. A macro, for what is generic over
/// vectors is not compiled for a feature.
macro_rules! packing {
    ($features:literal, $zero:ident, $store:ident) => {
        /// [`Kernel::pack`].
        ///
        /// # Safety
        /// That of [`Kernel::pack`].
        #[target_feature(enable = $features)]
        unsafe fn pack(lanes: Matrix<'_>, count: usize, width: usize, step: usize, panels: *mut f32) {
            let panels = (0..lanes.rows)
                .step_by(count)
                .enumerate()
                .map(|(index, first)| (first, panels.wrapping_add(index * step)));

            // Lanes that lie side by side, term after term: memory is read from one end to the other.
            if !lanes.is_in_rows() {
                for term in 0..lanes.columns {
                    let column = lanes.column(term);
                    for (first, panel) in panels.clone() {
                        let column = &column[first..column.len().min(first + count)];
                        for lane in (0..width).step_by(LANES) {
                            // SAFETY: as the caller promises.
                            unsafe {
                                $store(panel.add(term * width + lane), load(column.get(lane..).unwrap_or_default()))
                            };
                        }
                    }
                }
                return;
            }

            // A vector of lanes by as many terms at a time.
            for (first, panel) in panels {
                for lane in (0..width).step_by(LANES) {
                    let mut rows: [&[f32]; LANES] = [&[]; LANES];
                    let end = lanes.rows.min(first + count);
                    (first + lane..end).zip(&mut rows).for_each(|(lane, row)| *row = lanes.row(lane));
                    for term in (0..lanes.columns).step_by(LANES) {
                        let mut block = [$zero(); LANES];
                        for (vector, row) in block.iter_mut().zip(&rows) {
                            *vector = load(row.get(term..).unwrap_or_default());
                        }
                        for (term, vector) in (term..lanes.columns).zip(transpose(block)) {
                            // SAFETY: as the caller promises.
                            unsafe { $store(panel.add(term * width + lane), vector) };
                        }
                    }
                }
            }
        }
    };
}
pub(super) use packing;
