#!/usr/bin/env bash
# All measurements for one NVIDIA GPU: the throughput tables, then a full run of the literature's pair.
#   bash benchmarks/gpu.sh [results folder]      (STKD_DATA names the folder that holds cifar-100-python/)
# Needs torch, lightning, torchmetrics, torchvision and our small packages; those in wheels/ are installed from there.
# Nothing is downloaded. Takes about 25 minutes on one H200.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:-benchmarks/results}")
data=$(realpath -m "${STKD_DATA:-data}")
mkdir -p "$out"
[ -d wheels ] && pip install --quiet --no-index --no-deps wheels/*.whl
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" STKD_DATA="$data" STKD_CACHE="${STKD_CACHE:-$(mktemp -d)}"
export WANDB_MODE=offline

nvidia-smi --query-gpu=name,utilization.gpu,memory.used --format=csv,noheader
rows=(reference "plain Lightning" "ours, float32" "ours, eager" ours "ours, replay" "bare loop" parts)
python -c "import torchdistill" 2>/dev/null && rows+=(torchdistill)
for batch in 64 512; do
  python benchmarks/throughput.py --batch-size "$batch" --rounds 3 --round-seconds 3 --only "${rows[@]}" \
    --output "$out/throughput_cuda_$batch.json"
done
python benchmarks/framework.py --output "$out/framework_cuda.json"
python benchmarks/methods.py --output "$out/methods_cuda.json"

# Train the teacher separately, so that only the student's 240 epochs are timed.
common=(dataset=cifar100 "dataset.data_dir=$data" trainer=gpu logger=csv "dataset.validation_fraction=${VALIDATION:-0.1}")
python -m stkd_lightning.train "${common[@]}" student=resnet32x4 loss=ce "trainer.max_epochs=${EPOCHS:-240}" \
  hydra.run.dir="$out/teacher"
python -m stkd_lightning.train "${common[@]}" teacher=resnet32x4 student=resnet8x4 loss=stkd \
  "trainer.max_epochs=${EPOCHS:-240}" teacher.checkpoint="$out/teacher/checkpoints/last.ckpt" hydra.run.dir="$out/student"
cp "$out/student/summary.json" "$out/stkd_resnet32x4_resnet8x4_cuda.json"
python - "$out/stkd_resnet32x4_resnet8x4_cuda.json" <<'END'
import json, sys
run = json.load(open(sys.argv[1]))
print(f"{run['seconds'] / 60:.1f} min of training, {run['images_per_second']:,.0f} images/s,",
      f"test accuracy {run['student']['test']['last']['accuracy']:.2%}")
END
