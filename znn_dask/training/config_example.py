"""The commented configuration that ``znn-dask train --example`` prints."""

_EXAMPLE = """\
# Training configuration of znn-dask. Paths are relative to this file.
# Any key can be given on the command line as well: --set optimizer.eta=0.001
# Keys that are commented out show their default.

[network]
file = "network.znn"            # a .znn file; leave it out for one of the zoo
# zoo = "vd2d3d"                # a network of the zoo, by name
# output_function = "auto"      # auto: what the loss needs (softmax: linear, binomial:
                                # forward_logistics); keep: what the network file says
# seed_from = "old/checkpoints" # fine-tuning: start from the parameters of another training,
                                # by layer name; "seeding 0" on a layer in the file skips it

# Volumes to learn from, one table each.
[[data.train]]
volume = "volume.zarr"          # made by: znn-dask import raw.tif volume.zarr --name image
# image = "image"               # its name in the volume
# labels = "labels"             # their name: an integer per object, 0 between them
# mask = "mask"                 # learn only where this is not zero (default: everywhere)
region = [[0, 96], [0, 512], [0, 512]]  # voxels z, y, x to use (default: all)

# Volumes to validate on: the same keys. Leave out to train without validation.
[[data.validation]]
volume = "volume.zarr"
region = [[96, 128], [0, 512], [0, 512]]

[data]
target = "boundary"             # boundary: object or not (2 outputs);
                                # affinity: same object as the neighbour in x, y, z (3 outputs)
# preprocessing = "standard2D"  # standard2D: mean 0, deviation 1 per z slice; standard3D: per
                                # volume; symmetric_rescale: to [-1, 1]; none
# border = "valid"              # valid: only what lies inside; mirror: reflect images at their
                                # border, so that labels up to the border are used
# augment = true                # random flips along z, y, x and swaps of y and x
# rebalance = "none"            # give both classes the same weight: global (in the volume) or
                                # patch (in every patch)

[training]
output_size = [1, 64, 64]       # output patch of an update, z, y, x: larger is more efficient
                                # per voxel and needs more memory (see: znn-dask plan)
updates = 20000                 # to make in all, those before a --resume included
# loss = "auto"                 # auto: softmax for boundaries, binomial for affinities; others:
                                # square, square-square, and for affinities binomial-malis
# batch = 1                     # patches per update; a batch can spread over workers
# seed = 0                      # the same seed gives the same network, bit for bit
# dtype = "float32"             # precision of all arithmetic; or float64
folder = "checkpoints"          # where they go, a folder or URL; --resume goes on from there
# checkpoint_every = 1000       # updates between checkpoints
# keep = 3                      # latest checkpoints to keep, besides the best one
# validate_every = 1000         # updates between validations, each a checkpoint too
# validation_patches = 16       # patches per validation, the same every time
# early_stopping = 0            # stop after so many validations without improvement; 0: never

[optimizer]
eta = 0.002                     # learning rate, for the gradient divided by output voxels
momentum = 0.9                  # share of the last change that goes on in the next
# weight_decay = 0.0            # pull of the kernels towards 0, relative to eta
anneal_factor = 0.997           # what eta is multiplied by, again and again
anneal_every = 100              # updates between two multiplications

[execution]                     # time and memory
# threads = 0                   # per worker; 0: all cores
# algorithm = "auto"            # how convolutions are computed; auto: the fastest for each layer
# plan = "plan.json"            # instead: the method of every layer, measured by znn-dask tune
# any_worker = false            # use workers with other libraries too: the result then depends on
                                # which worker computed what
# memory_limit = "auto"         # refuse to start when more is needed, for example "8 GiB"
"""


def example_config() -> str:
    """A configuration file that explains every key, as TOML text."""
    return _EXAMPLE
