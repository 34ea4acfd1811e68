//! Of the ops that go through tensors element by element, and of sums of partials.

use std::slice::{from_mut, from_ref};

use igpt_engine::device::prelude::*;
use igpt_engine::device::{AdamStep, Beta, CudaDevice, PartialSum, Precision, WeightLayout};

use super::{Case, Formula, Least, Names, fixed, tensor};

impl Names {
    /// Their cases.
    pub(super) fn elements(&self) -> Vec<Case> {
        let (size, count) = (self.bytes(), 64 * 1024 * self.1);
        let add = move |device: &CudaDevice| {
            // Results of an op are in the device's precision.
            let [mut into, other] = [(); 2].map(|()| device.mean_pool(&tensor(device, &[1, 1, count])).unwrap());
            device.add_assign(&mut into, &other).unwrap();
        };
        let kernels = vec![(format!("add_assign_{}", self.name()), fixed(2 * size * count, size * count))];
        let mut cases = vec![Case { card: None, shape: count.to_string(), run: Box::new(add), kernels }];

        let squares = move |device: &CudaDevice| {
            let x = device.mean_pool(&tensor(device, &[1, 1, count])).unwrap();
            device.global_norm(&[x]).unwrap();
        };
        let blocks = move |[blocks, _, _]: [usize; 3]| Least { read: size * count, written: 8 * blocks, flops: 0 };
        let mut kernels: Vec<(String, Formula)> = vec![(format!("square_sums_{}", self.name()), Box::new(blocks))];
        if self.0 == Precision::F32 {
            // A partial sum for each chunk.
            kernels.push(("root_of_sum".to_owned(), fixed(8 * count / 16_384, 4)));
        }
        cases.push(Case { card: None, shape: count.to_string(), run: Box::new(squares), kernels });
        if self.0 == Precision::F32 {
            let adam = move |device: &CudaDevice| {
                let [mut parameter, gradient, mut first] = [(); 3].map(|()| tensor(device, &[count]));
                let mut second = device.zeros(&[count]).unwrap();
                let step = AdamStep { learning_rate: 1e-3, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, step: 10 };
                device
                    .adam(
                        from_mut(&mut parameter),
                        from_ref(&gradient),
                        from_mut(&mut first),
                        from_mut(&mut second),
                        step,
                        None,
                    )
                    .unwrap();
            };
            let kernels = vec![("adam".to_owned(), fixed(16 * count + 20, 12 * count))];
            cases.push(Case { card: None, shape: count.to_string(), run: Box::new(adam), kernels });

            let ema = move |device: &CudaDevice| {
                let [mut average, parameter] = [(); 2].map(|()| tensor(device, &[count]));
                device.ema(&mut average, &parameter, 1e-3, &tensor(device, &[3])).unwrap();
            };
            let kernels = vec![("ema".to_owned(), fixed(8 * count + 4, 4 * count))];
            cases.push(Case { card: None, shape: count.to_string(), run: Box::new(ema), kernels });

            let lap = move |device: &CudaDevice| {
                device.lap(&mut tensor(device, &[8]), Some(1)).unwrap();
            };
            let kernels = vec![("lap".to_owned(), fixed(12, 12))];
            cases.push(Case { card: None, shape: "1".to_owned(), run: Box::new(lap), kernels });

            let spike = move |device: &CudaDevice| {
                let [losses, mut recent, mut verdict] = [64, 7, 3].map(|count| tensor(device, &[count]));
                device.judge_spike(&losses, 6.0, &mut recent, &mut verdict).unwrap();
            };
            let kernels = vec![("judge_spike".to_owned(), fixed(4 * (64 + 7 + 3), 4 * 10))];
            cases.push(Case { card: None, shape: "64".to_owned(), run: Box::new(spike), kernels });

            // The gradient of a weight by many rows, in 4 splits of k.
            let (rows, width, splits) = (1024, 64, 4);
            let sums = move |device: &CudaDevice| {
                let [x, dy] = [(); 2].map(|()| tensor(device, &[rows, width]));
                let [weight, mut d_weight] = [(); 2].map(|()| tensor(device, &[width, width]));
                device.linear_backward(&dy, &x, &weight, WeightLayout::InOut, &mut d_weight, None, Beta::One).unwrap();
            };
            let total = 4 * width * width;
            let kernels = vec![("sum_splits".to_owned(), fixed((splits + 1) * total, total))];
            cases.push(Case {
                card: None,
                shape: format!("{splits} of {width} x {width}"),
                run: Box::new(sums),
                kernels,
            });

            // The gains of several norms, each in as many partial sums as there are at most; here they are the same.
            let (norms, blocks, width) = (8, 256, 512);
            let gains = move |device: &CudaDevice| {
                let partials = tensor(device, &[blocks, width]);
                let mut totals = [(); 8].map(|()| tensor(device, &[width]));
                let sum = |total| PartialSum { partials: &partials, total, beta: Beta::Zero };
                device.sum_partials(totals.iter_mut().map(sum).collect()).unwrap();
            };
            let kernels = vec![("sum_partials".to_owned(), fixed(4 * norms * blocks * width, 4 * norms * width))];
            let shape = format!("{norms} of {blocks} x {width}");
            cases.push(Case { card: None, shape, run: Box::new(gains), kernels });
        } else {
            let convert = move |device: &CudaDevice| {
                let pooled = device.mean_pool(&tensor(device, &[1, 1, count])).unwrap();
                device.add_assign(&mut device.zeros(&[1, count]).unwrap(), &pooled).unwrap();
            };
            let kernels = vec![
                ("to_bf16".to_owned(), fixed(4 * count, 2 * count)),
                ("to_f32".to_owned(), fixed(2 * count, 4 * count)),
            ];
            cases.push(Case { card: None, shape: count.to_string(), run: Box::new(convert), kernels });
        }
        cases
    }
}
