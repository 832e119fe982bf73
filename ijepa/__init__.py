"""ijepa: the design choices of I-JEPA (arXiv 2301.08243), re-runnable and auditable.

Where to start
    The data flows one way, and so does the reading order:

    ===========  ====================================================  =======================
    step         from -> to                                            file
    ===========  ====================================================  =======================
    prepare      a data set's files -> an immutable, checksummed       ``prepare``,
                 store of images and labels                            ``datasets/``, ``store/``
    batch        global step k -> views (B, 3, S, S) and masks         ``training/batches``,
                                                                       ``training/augment``
    masks        keys -> context (B, C), targets (B, M, T)             ``masks/``
    context      visible patches -> (B, C, D)                          ``model/vit``
    target       whole images -> layer norm -> (B, M, T, D), no        ``model/teacher``
                 gradient
    prediction   context + mask tokens -> (B, M, T, D)                 ``model/predictor``
    loss         scalar, then ``update``: the EMA                      ``objectives/``
    training     the loop, which knows only the objective              ``training/loop``
    cost         shapes -> FLOPs; clocks and counters                  ``model/flops``,
                                                                       ``training/meter``
    features     frozen encoder -> (images, D) on disk                 ``backbones/``,
                                                                       ``features``
    predictions  features and labels -> classes of the test images     ``probes/``,
                                                                       ``evaluation/probing``
    metrics      predictions -> accuracies with intervals              ``evaluation/scores``
    numbers      a run's files, or a study's runs -> typed records     ``results/``,
                 without words                                         ``study/summary``
    pages        records -> tables, figures, prose                     ``pages/``
    ===========  ====================================================  =======================

    ``prepare``, ``pretrain``, ``evaluate`` and ``report`` are the four doors, each a DVC stage
    (``dvc.yaml``): read the parameters, call one thing, record. ``study/`` makes an experiment's
    runs of them: ``experiment`` -> ``plan`` -> ``runner`` -> ``lock``; ``vouch`` carries results
    over a refactoring. ``pages/run``, ``pages/study`` and ``pages/index`` are read from the top:
    their sections in order, ``pages/table`` and ``pages/figure`` below them.

    ``params.yaml`` holds the science (``config``), ``runtime/`` reads the hardware, ``tracking/``
    is told what happens and alters nothing. A variant of ``datasets/``, ``masks/``,
    ``objectives/``, ``backbones/`` or ``probes/`` is one file, found by its name (``variants``,
    which also says what code a number depends on).

Shapes
    B images in a batch, H x W pixels, N patches of an image, C context tokens, M target blocks,
    T tokens of a target block, D width of the encoder, K classes.

Words
    context   the patches the context encoder sees
    target    a block of patches whose representations are predicted
    teacher   the target encoder: the exponential moving average (EMA) of the context encoder
    signature the hash of a run's resolved science; hardware is not part of it
    code      the hash of all code that a run can reach, words left out (``variants.code``)
    study     an experiment at a scale: its runs over seeds
"""

import os

# OpenMP's threads spin while they wait for each other, unless told otherwise before torch is
# loaded. Beside a busy process two threads of ours then lose most of their speed. Where operations
# are so short that waking up is dear, ijepa.pretrain takes one thread less.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
