"""ijepa: the design choices of I-JEPA (arXiv 2301.08243), re-runnable and auditable.

Where to start
    The data flows one way, and so does the reading order:

    ===============  ==================================================  =====================
    step             from -> to                                          file
    ===============  ==================================================  =====================
    prepare          a data set's files -> an immutable, checksummed     ``prepare``, ``store``
                     store of images and labels
    batch            global step k -> views (B, 3, S, S) and masks       ``batches``,
                                                                         ``augment``
    masks            keys -> context (B, C), targets (B, M, T)           ``masks/``
    context          visible patches -> (B, C, D)                        ``encoder``
    target           whole images -> layer norm -> (B, M, T, D), no      ``teacher``
                     gradient
    prediction       context + mask tokens -> (B, M, T, D)               ``predictor``
    loss             scalar, then ``update``: the EMA                    ``objectives/``
    training         the loop, which knows only the objective            ``train``
    cost             shapes -> FLOPs; clocks and counters                ``cost``, ``meter``
    features         frozen encoder -> (images, D) on disk               ``encoders/``,
                                                                         ``features``
    predictions      features and labels -> classes of the test images   ``probing``, ``probes/``
    metrics          predictions -> accuracies with intervals            ``scores``
    report           the stages' files -> numbers -> one page, figures,  ``results/``,
                     Markdown                                            ``pages/``
    ===============  ==================================================  =====================

    ``prepare``, ``pretrain``, ``evaluate`` and ``report`` are the four DVC stages (``dvc.yaml``).
    ``params.yaml`` holds the science, ``environment`` reads the hardware. A variant of
    ``datasets/``, ``masks/``, ``objectives/``, ``encoders/`` or ``probes/`` is one file, found by
    its name (``variants``).

Shapes
    B images in a batch, H x W pixels, N patches of an image, C context tokens, M target blocks,
    T tokens of a target block, D width of the encoder, K classes.

Words
    context   the patches the context encoder sees
    target    a block of patches whose representations are predicted
    teacher   the target encoder: the exponential moving average (EMA) of the context encoder
    signature the hash of a run's resolved science; hardware is not part of it
"""
