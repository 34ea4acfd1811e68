//! Of the mean over tokens.

use super::{Device, Found, Mutant, PAST, STALE, WRONG, mutants};
use crate::far;
use crate::ops::mean_pool;

fn many(device: &Device) {
    mean_pool::check(device, 33, 3, 33, 33);
}

pub const MUTANTS: &[Mutant] = mutants! {
    "mean_pool: tokens past the threads of a column are forgotten":
    "mean_pool" "mean_pool.cu" ["KERNELS(f32,"], F32, many, WRONG;
    "token < tokens; token += 8" => "token < tokens; token += tokens"

    "mean_pool: the sum is not divided":
    "mean_pool" "mean_pool.cu" ["KERNELS(f32,"], F32, many, WRONG;
    "sum / tokens" => "sum"

    "mean_pool: the sum is rounded before it is divided":
    "mean_pool" "mean_pool.cu" ["KERNELS(bf16,"], Bf16, many, WRONG;
    "sum / tokens" => "rounded<T>(sum) / tokens"

    "mean_pool: the last thread's sum is forgotten":
    "mean_pool" "mean_pool.cu" ["KERNELS(f32,"], F32, many, WRONG;
    "part < 8; ++part" => "part < 7; ++part"

    "mean_pool: no barrier before the sums are read":
    "mean_pool" "mean_pool.cu" ["KERNELS(f32,"], F32, many, STALE;
    "partial[threadIdx.y][threadIdx.x] = sum; __syncthreads();" => "partial[threadIdx.y][threadIdx.x] = sum;"

    "mean_pool backward: gradients are not divided":
    "mean_pool" "mean_pool.cu" ["KERNELS(f32,"], F32, many, WRONG;
    "static_cast<size_t>(image) * width + column]) / tokens" => "static_cast<size_t>(image) * width + column])"

    "mean_pool backward: gradients are multiplied by a rounded reciprocal":
    "mean_pool" "mean_pool.cu" ["KERNELS(f32,"], F32, many, WRONG;
    "static_cast<size_t>(image) * width + column]) / tokens" =>
    "static_cast<size_t>(image) * width + column]) * (1.0f / tokens)"

    "mean_pool backward: columns past the last are written":
    "mean_pool" "mean_pool.cu" ["KERNELS(f32,"], F32, many, PAST;
    "if (column >= width) return;" => ""

    "mean_pool backward: images and tokens change places":
    "mean_pool" "mean_pool.cu" ["KERNELS(f32,"], F32, many, WRONG;
    "(static_cast<size_t>(image) * tokens + token) * width" =>
    "(static_cast<size_t>(token) * gridDim.z + image) * width"

    "mean_pool: the offset of a token in 32 bits":
    "mean_pool" "mean_pool.cu" ["KERNELS(f32,"], F32, far::mean_pool, Found::Elsewhere;
    "static_cast<size_t>(token) * width]" => "static_cast<int>(token * static_cast<unsigned>(width))]"

    "mean_pool: the offset of an image in 32 bits":
    "mean_pool" "mean_pool.cu" ["KERNELS(f32,"], F32, far::mean_pool, Found::Elsewhere;
    "static_cast<size_t>(image) * tokens * width + column" =>
    "static_cast<int>(static_cast<unsigned>(image) * tokens * width) + column"

    "mean_pool backward: the offset of a token in 32 bits":
    "mean_pool" "mean_pool.cu" ["KERNELS(f32,"], F32, far::mean_pool_backward, Found::Elsewhere;
    "(static_cast<size_t>(image) * tokens + token) * width" =>
    "static_cast<int>((static_cast<unsigned>(image) * tokens + token) * width)"
};
