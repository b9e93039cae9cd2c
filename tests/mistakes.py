"""The mistakes a user can make in a config, and what is said of each; `test_bad_input` makes them."""

import tiny
from adjoined_mistakes import ADJOINED

OUT = ...  # takes a key out of the config
STAGES = [dict(kind='recast', iters=2), dict(kind='finetune', iters=2)]
FIRST, SECOND, LAST = (f'backbone.layer{stage}.0' for stage in (1, 2, 3))
UNKNOWN, ENDING = 'is not registered in mmrecast', r'; custom_imports registers your own$'


def recipe(source: str | list = FIRST, type: str = 'ConvBlock', **target) -> dict:
    """Return the change of the config to a recipe of one rule."""
    return {'model.recipe': [dict(source=source, target=dict(target, type=type))]}


def stages(*entries: object) -> dict:
    """Return the change of the config to another schedule."""
    return {'train_cfg.stages': list(entries)}


def recast(**stage) -> dict:
    """Return the change of the config to another recast stage."""
    return stages(dict(kind='recast', **stage), STAGES[1])


def optimizer(**changes) -> dict:
    """Return the change of the config's optimiser."""
    return {f'optim_wrapper.optimizer.{key}': value for key, value in changes.items()}


def train_data(type: str, **arguments) -> dict:
    """Return the change of the config to other training data."""
    return {'train_dataloader.dataset': dict(type=type, **arguments)}


def shape(*input_shape: int) -> dict:
    """Return the change of the config to another input shape."""
    return {'model.data_preprocessor': dict(type='BatchPreprocessor', input_shape=input_shape)}


WIDTH_KEPT = tiny.classifier(widths=(4, 6, 10)) | dict(head=dict(type='ClsHead'))  # the blocks' output is the logits
FILES = dict(  # name: what is said of it as a teacher, what as a checkpoint to resume from
    absent=('no checkpoint at .*absent.pth .nearest: ',) * 2,
    empty=(r'empty.pth is not a readable checkpoint \(the file is empty\)',) * 2,
    cut=(r'cut.pth is not a readable checkpoint \(it is cut short: copy or download it again\)',) * 2,
    page=(r'page.pth is not a readable checkpoint \(it is a web page: download it again\)',) * 2,
    code=('code.pth holds posix.system, which a checkpoint may not; it was not run',) * 2,
    deeper=(
        r'does not fit ImageClassifier: 36 unexpected: backbone.layer1.1.conv1.weight \(4, 4, 3, 3\), .*, …$',
        r'no checkpoint of a staged run: give a stage\*_iter\*.pth of a work dir',
    ),
    wider=(
        r'\d+ of other shape: backbone.layer2.0.conv1.weight \(8, 4, 3, 3\), expected \(6, 4, 3, 3\), .*, …$',
        r'no checkpoint of a staged run',
    ),
    student=('student.pth is a recast student with its plan', 'student.pth is a student, without the state of its'),
)  # fmt: skip
TYPES = [  # (key of the config, what stands there, nearest): the registries
    ('model.type', 'Recastin', 'model .nearest: Recasting'),
    ('model.teacher.type', 'mmpretrain.ImageClasifier', 'model .nearest: mmpretrain.ImageClassifier'),
    ('model.teacher.type', 'mmpretran.ImageClassifier', "model: there is no scope 'mmpretran' .nearest: mmpretrain"),
    ('model.block_loss.type', 'MSELos', 'model .nearest: MSELoss'),
    ('model.data_preprocessor.type', 'BatchPreprocesor', 'model .nearest: BatchPreprocessor'),
    ('train_dataloader.dataset.type', 'Digit', 'dataset .nearest: Digits'),
    ('val_dataloader.dataset.type', 'Cifar10', 'dataset .nearest: CIFAR10'),
    ('train_dataloader.sampler.type', 'DefaultSampeler', 'data sampler .nearest: DefaultSampler'),
    ('train_dataloader.collate_fn.type', 'batch_colate', 'function .nearest: batch_collate'),
    ('optim_wrapper.type', 'OptimWraper', 'optim_wrapper .nearest: OptimWrapper'),
    ('optim_wrapper.optimizer.type', 'Sgd', 'optimizer .nearest: SGD'),
    ('param_scheduler.type', 'CosineAnealingLR', 'parameter scheduler .nearest: CosineAnnealingLR'),
    ('custom_hooks', [dict(type='ResultHok')], 'hook .nearest: ResultHook'),
    ('default_hooks.logger.type', 'LogerHook', 'hook .nearest: LoggerHook'),
    ('train_cfg.type', 'StagedLop', 'loop .nearest: StagedLoop'),
    ('val_evaluator.type', 'Accuracy', 'metric .nearest: mmpretrain.Accuracy'),
    ('log_processor.type', 'StagedLogProcesor', 'log_processor .nearest: StagedLogProcessor'),
    ('runner_type', 'StagedRuner', 'runner .nearest: StagedRunner'),
]
ARGUMENTS = [  # (key that nothing takes, who does not, nearest)
    ('model.star', 'Recasting', 'start'),
    ('model.recipee', 'Recasting', 'recipe'),
    ('model.teacher.backbone.depht', 'CifarResNet', 'depth'),
    ('model.data_preprocessor.padding', 'BatchPreprocessor', 'crop_padding'),
    ('train_dataloader.dataset.splt', 'Digits', 'split'),
    ('train_dataloader.batchsize', 'DataLoader', 'batch_size'),
    ('val_evaluator.topkk', 'Accuracy', 'topk'),
    ('default_hooks.checkpoint.intervall', 'StagedCheckpointHook', 'interval'),
    ('train_cfg.val_intervall', 'StagedLoop', 'val_interval'),
]
LINK = dict(student='logits', teacher='logits', loss=dict(type='MSELoss'))
DISTIL = dict(type='SingleTeacherDistill', student=tiny.classifier(), data_preprocessor=tiny.preprocessor())
FIRST_PHASE = dict(
    student=None, teacher='backbone.layer3', teacher_connector='coder', loss=dict(type='L1Loss'), stage='pretrain'
)
CONTRAST = dict(
    student='backbone.layer3', teacher='backbone.layer3', connector=dict(type='CRDConnector', dim_out=8),
    teacher_connector=dict(type='CRDConnector', dim_out=8),
    loss=dict(type='CRDLoss', neg_num=4, dim_out=8, sample_n=96),
)  # fmt: skip


def distil(*links: dict, stages: tuple = (dict(kind='train', iters=2),), **changes) -> dict:
    """Return the change of the config to a distillation through ``links``; ``changes`` are of the algorithm."""
    model = DISTIL | dict(teacher=tiny.classifier(), links=list(links)) | changes
    return {'model': model, 'train_cfg.stages': list(stages)}


# (name, changes of a config that is in order ('@…' are arguments of ready_runner), exception, what it says)
MISTAKES = [
    ('unknown path', recipe('backbone.layer1.7'), ValueError, f"path 'backbone.layer1.7' matches .*nearest: {FIRST}"),
    ('empty pattern', recipe('backbone.stage*.*'), ValueError, "pattern 'backbone.stage.*' matches nothing .nearest: "),
    ('overlap', recipe(['backbone.layer1', FIRST]), ValueError, f"'backbone.layer1' and '{FIRST}' overlap: name one"),
    ('order', recipe([SECOND, FIRST]), ValueError, f"'{FIRST}' stands before '{SECOND}' in the network: write"),
    ('twice', recipe([FIRST, 'backbone.*.0']), ValueError, f"block '{FIRST}' is selected twice by the recipe: name"),
    ('no chain', recipe(f'{FIRST}.conv2'), ValueError, 'not a chain: .* is not fed by .* alone .*; name a module that'),
    ('no map', recipe('head.fc'), ValueError, r"'head.fc' selects no block but Linear: a source is a convolution"),
    ('ratio of nothing', recipe(width_ratio=0.01), ValueError, 'would have 0 channels: a whole number of at least 1'),
    ('stride', recipe(SECOND, stride=1), ValueError, r'maps \(4, 8, 8\) to \(6, 4, 4\), so its target needs stride 2'),
    ('no channels', recipe(out_channels=0), ValueError, 'would have 0 channels: a whole number of at least 1'),
    ('negative ratio', recipe(width_ratio=-1), ValueError, 'width_ratio for .* must be a positive number, got -1'),
    ('width stuck', recipe(LAST, width_ratio=0.5) | {'model.teacher': WIDTH_KEPT}, ValueError,
     'from 10 to 5, but nothing behind it can take that up: keep the width'),
    ('target argument', recipe(kernelsize=3), ValueError,
     "ConvBlock takes no argument 'kernelsize' .nearest: kernel_size"),
    ('unsolvable', recipe(type='PlainBlock') | {'model.start': 'closed_form'}, ValueError,
     "start='closed_form' cannot solve .* PlainBlock.solvable.. tells of no convolution .*; use 'xavier'"),
    ('unknown block', recipe(type='ConvBlok'), KeyError, f"'ConvBlok' {UNKNOWN}.block .nearest: ConvBlock.*{ENDING}"),
    ('no recipe', {'model.recipe': OUT}, TypeError, "^Recasting needs the argument 'recipe', which is not given$"),
    ('unknown start', {'model.start': 'closedform'}, ValueError, r'got .closedform. \(nearest: closed_form\)'),
    ('unknown connector', {'model.compare': 'target', 'model.connector': dict(type='ConvModuleConector')}, KeyError,
     'nearest: ConvModuleConnector'),
    ('idle connector', {'model.connector': dict(type='ConvModuleConnector')}, ValueError, "compare='target' alone"),
    *[(f'type {key} {name}', {key: name}, KeyError, f'{UNKNOWN}.{said}') for key, name, said in TYPES],
    *[(key, {key: 3}, TypeError, f"^{who} takes no argument '{key.split('.')[-1]}' .nearest: .*{near}")
      for key, who, near in ARGUMENTS],
    ('unknown runner', {'runner_type': 'Runner'}, ValueError,
     "must be StagedRunner or .* derived from it, got 'Runner'"),
    *[(f'teacher {name}', {'model.teacher_ckpt': f'{{files}}/{name}.pth'}, None, said[0])
      for name, said in FILES.items()],
    *[(f'resume {name}', {'@resume': f'{{files}}/{name}.pth'}, None, said[1]) for name, said in FILES.items()],
    ('resume nothing', {'@resume': True}, ValueError, 'nothing to resume in .*; leave --resume out to start'),
    ('resume recipe', recipe('backbone.layer*.*', kernel_size=5) | {'@resume': '{files}/run.pth'}, ValueError,
     'cannot be resumed: it was written with another recipe; start afresh in another work_dir, or restore'),
    ('resume schedule', recast(iters=3) | {'@resume': '{files}/run.pth'}, ValueError, 'with another schedule;'),
    ('resume optimiser', optimizer(lr=0.1) | {'@resume': '{files}/run.pth'}, ValueError, 'with another schedule;'),
    ('resume losses', {'model.block_loss.loss_weight': 2.0, '@resume': '{files}/run.pth'}, ValueError,
     'with another options;'),
    ('resume teacher', {'model.teacher_ckpt': '{files}/other.pth', '@resume': '{files}/run.pth'}, ValueError,
     'with another teacher;'),
    ('data nowhere', train_data('CIFAR10', data_root='{files}/nowhere'), FileNotFoundError,
     r'no CIFAR10 under .*nowhere \(which does not exist\): expected cifar-10-batches-py/.*; download=True in'),
    ('data empty', train_data('CIFAR10', data_root='{files}/void'), FileNotFoundError, r'void \(which is empty\)'),
    ('batch missing', train_data('CIFAR10', data_root='{files}/half'), FileNotFoundError, 'lacks data_batch_2, data_'),
    ('class missing', train_data('CIFAR10', data_root='{files}/nine'), FileNotFoundError, 'of class truck; it has 9'),
    ('split missing', train_data('CIFAR10', data_root='{files}/nine', split='test'), FileNotFoundError, 'no test/'),
    ('broken image', train_data('CIFAR10', data_root='{files}/torn'), ValueError, 'cat/0.png is not a readable image'),
    ('no data root', {'@data_root': '/nowhere'}, TypeError, "Digits takes no argument 'data_root'"),
    ('label outside', train_data('ElevenLabels'), ValueError, 'label 10 of sample 10 is outside the 10 classes'),
    ('labels from 1', train_data('LabelsFrom1'), ValueError, 'label 10 is outside the 10 classes of the student'),
    ('too few', {'train_dataloader.dataset.num_samples': 5000}, ValueError, 'expected a whole number from 1 to 1437'),
    ('no batch', {'train_dataloader.batch_size': 500, 'train_dataloader.drop_last': True}, ValueError,
     'gives no batch'),
    ('batch size', {'val_dataloader.batch_size': 0}, ValueError,
     'val_dataloader.batch_size must be .* at least 1, got 0'),
    ('no batch size', {'train_dataloader.batch_size': OUT}, ValueError, 'train_dataloader needs batch_size'),
    ('no sampler', {'train_dataloader.sampler': OUT}, ValueError, 'train_dataloader needs sampler'),
    ('classes', {'model.teacher': tiny.classifier(classes=7)}, ValueError,
     'teacher has 7 classes but the data set has 10'),
    ('image channels', shape(3, 8, 8), ValueError, r'ImageClassifier does not take an input of \(3, 8, 8\): '),
    ('image size', shape(1, 16, 16), ValueError, r'images have shape \(1, 8, 8\), but input_shape is \(1, 16, 16\)'),
    ('zero epochs', recast(epochs=0), ValueError, "recast: a length of 0 needs start='closed_form'"),
    ('zero tuning', stages(STAGES[0], dict(kind='finetune', epochs=0)), ValueError, 'finetune: its length must be at'),
    ('negative epochs', recast(epochs=-1), ValueError, 'epochs must be a whole number of at least 1, got -1'),
    ('half an epoch', recast(epochs=1.5), ValueError, 'epochs must be a whole number of at least 1, got 1.5'),
    ('both lengths', recast(epochs=1, iters=1), ValueError, 'give exactly one of epochs and iters, got 1 and 1'),
    ('no length', recast(), ValueError, 'recast: give exactly one of epochs and iters'),
    ('unknown kind', stages(dict(kind='recst', iters=1)), ValueError,
     r'Recasting has no stage .recst. .nearest: recast'),
    ('unknown key', recast(epoch=1), ValueError, r"unknown key 'epoch' in stage 'recast' \(nearest: epochs\)"),
    ('no stage', stages('recast'), ValueError, r"a stage is a dict\(kind=…, epochs=…\), got 'recast'"),
    ('no stages', {'train_cfg.stages': []}, ValueError, r'a schedule is a list of stages, got \[\]'),
    ('mmengine loop', {'train_cfg': dict(by_epoch=True, max_epochs=3)}, ValueError, "must be dict.type='St"),
    ('block not recast', recipe() | recast(blocks=LAST, iters=1), ValueError,
     f"'{LAST}' matches .* blocks of the recipe"),
    ('stages missing', stages(STAGES[1]), ValueError,
     f"no recast stage for block '{FIRST}' of the recipe: write blocks='all'"),
    ('stages order', recast(iters=1, blocks=SECOND), ValueError,
     f"go through the plan in order: .* where '{FIRST}' is next"),
    ('stages too many', stages(STAGES[0], STAGES[0]), ValueError,
     'a recast stage too many, all 3 blocks of the recipe have one'),
    ('negative rate', optimizer(lr=-1), ValueError, '^optimiser: Invalid learning rate: -1$'),
    ('rate of a stage', recast(iters=1, optim_wrapper=dict(optimizer=dict(type='SGD', lr=-1))), ValueError,
     "^optimiser of stage 'recast': Invalid learning rate: -1$"),
    ('rate in words', optimizer(lr='fast'), ValueError, "lr must be a number, got 'fast'"),
    ('rate nan', optimizer(lr=float('nan')), ValueError, 'lr must be a number, got nan'),
    ('momentum', optimizer(type='SGD', momentum=1.5), ValueError,
     'momentum must be at least 0 and smaller than 1, got 1.5'),
    ('negative momentum', optimizer(type='SGD', momentum=-0.1), ValueError, 'Invalid momentum value: -0.1'),
    ('optimiser argument', optimizer(learning_rate=1), ValueError, "Adam takes no argument 'learning_rate' .nearest: "),
    ('wrapper argument', {'optim_wrapper.clip_grads': 1}, ValueError, 'OptimWrapper takes .*nearest: clip_grad'),
    ('clip argument', {'optim_wrapper.clip_grad': dict(max_nrm=1)}, ValueError, "'max_nrm' .nearest: max_norm"),
    ('no optimiser', {'optim_wrapper.optimizer': OUT}, ValueError,
     "given as optim_wrapper=dict.type='OptimWrapper', optimizer="),
    ('scheduler argument', {'param_scheduler.tmax': 3}, ValueError, "takes no argument 'tmax' .nearest: T_max"),
    ('scheduler in words', {'param_scheduler': 'cosine'}, ValueError, "param_scheduler must be a dict.*, got 'cosine'"),
    ('seed', {'randomness.seed': -1}, ValueError, 'randomness.seed must be a whole number from 0'),
    ('no model', {'model': OUT}, ValueError, 'a training config needs model'),
    ('misspelt key', {'param_scheduler': OUT, 'param_schedular': {}}, ValueError,
     'unknown key .*nearest: param_scheduler'),
    ('half a validation', {'val_cfg': OUT}, ValueError, 'go together, but there is no val_cfg'),
    ('link without teacher', {'model': DISTIL | dict(links=[LINK])}, ValueError, r'1 link\(s\) but no teacher: give'),
    ('unknown tap', {'model': DISTIL | dict(teacher=tiny.classifier(), links=[LINK | dict(student='haed')])}, KeyError,
     "has no module 'haed' .nearest: head"),
    ('tap of the teacher', distil(LINK | dict(teacher='backbone.layer33')), KeyError,
     "^.?link 0: teacher tap: ImageClassifier has no module 'backbone.layer33' .nearest: backbone.layer3"),
    ('alias', distil(LINK | dict(student='lst'), taps=dict(student=dict(last='head'))), KeyError,
     "no module 'lst' .nearest: last"),
    ('tap never read', distil(LINK | dict(student='head.loss_module')), ValueError,
     "student tap 'head.loss_module' is never read: ImageClassifier does not call it in its forward pass"),
    ('tap read often', distil(LINK | dict(teacher='twice'), teacher=dict(type='TwiceForTests')), ValueError,
     r"teacher tap 'twice' is read 2 times .*: say which is meant, dict\(path='twice', call=0\) to call=1"),
    ('shapes', distil(LINK | dict(student='backbone.layer1', teacher='backbone.layer2')), ValueError,
     r"link 0: MSELoss cannot compare student 'backbone.layer1' \(4, 8, 8\) against teacher 'backbone.layer2' "
     r"\(6, 4, 4\): .*a connector can join them, e.g. dict\(type='ConvModuleConnector'\)"),
    ('loss argument', distil(LINK | dict(loss=dict(type='KLDivergence', tua=4.0))), TypeError,
     "link 0: loss: KLDivergence takes no argument 'tua' .nearest: tau"),
    ('argument left out', distil(dict(student='backbone.layer3', loss=dict(type='MSELoss'),
                                      connector=dict(type='ConvModuleConnector'))), TypeError,
     "link 0: connector: ConvModuleConnector needs the argument 'out_channel', which is not given"),
    ('connector argument', distil(LINK | dict(connector=dict(type='CRDConnector', dim_ot=3))), TypeError,
     "link 0: connector: CRDConnector takes no argument 'dim_ot' .nearest: dim_out"),
    ('connector name', distil(LINK | dict(connector='codr'), connectors=dict(coder=dict(type='Paraphraser'))), KeyError,
     "link 0: there is no connector 'codr' in connectors .nearest: coder"),
    ('second phase alone', distil(FIRST_PHASE, LINK, connectors=dict(coder=dict(type='Paraphraser'))), ValueError,
     r"link 0 is of stage 'pretrain', which the schedule lacks: add dict\(kind='pretrain', …\), or .*pretrained=FILE"),
    ('phases the wrong way', distil(FIRST_PHASE, LINK, connectors=dict(coder=dict(type='Paraphraser')), stages=(
        dict(kind='train', iters=1), dict(kind='pretrain', iters=1))), ValueError,
     'the order of stages is pretrain, train, got train, pretrain'),
    ('first phase of nothing', distil(LINK, stages=(dict(kind='pretrain', iters=1), dict(kind='train', iters=1))),
     ValueError, "a stage 'pretrain' without a link of that stage"),
    ('pretrained connector', distil(FIRST_PHASE, LINK, connectors=dict(
        coder=dict(type='Paraphraser', pretrained='{files}/other.pth'))), ValueError,
     "connector 'coder': .*other.pth is no file of a connector"),
    ('classes of logits', distil(LINK, teacher=tiny.classifier(classes=7)), ValueError,
     'link 0: the student has 10 classes, the teacher 7: logits cannot be compared'),
    ('no sample numbers', distil(CONTRAST) | train_data('NoIndicesForTests'), ValueError,
     'link 0: CRDLoss needs sample_idx, which the training data do not give'),
    ('memory too small', distil(CONTRAST | dict(loss=dict(CONTRAST['loss'], sample_n=95))), ValueError, '95.* 96'),
    ('link of a dict', distil('logits'), ValueError, r"link 0 must be a dict\(student=…"),
    ('link without a loss', distil(dict(student='logits', teacher='logits')), ValueError, 'link 0 needs a loss'),
    ('teacher input', distil(LINK, teacher_input=dict(mean=[0.5])), ValueError, 'mean and std go together'),
    *ADJOINED,
    ('budget', {'train_cfg.budget': 3}, ValueError, 'a budget of 3 iterations is too small: .* need at least 4'),
    ('budget in words', {'train_cfg.budget': 'small'}, ValueError, 'budget of the StagedLoop must be a whole number'),
    ('teacher cache', {'model.teacher_cache': 16}, ValueError,
     'teacher_cache keeps what comes again, but crops and flips are new in every epoch: set views=… of the data_prep'),
    ('teacher cache', {'model.teacher_cache': 16, 'model.data_preprocessor.views': 2,
                       'train_dataloader.dataset': dict(type='NoIndicesForTests')}, ValueError,
     'teacher_cache needs images that come again as they were: a NoIndices may change them at random itself; use'),
    ('checkpointing', {'model.checkpointing': 'yes'}, ValueError, "checkpointing must be True or False, got 'yes'"),
    ('tf32', {'env_cfg': dict(tf32='yes')}, ValueError, "env_cfg: tf32 must be True or False, got 'yes'"),
    ('teacher cache', {'model.teacher_cache': -1}, ValueError, 'teacher_cache is a number of MiB, 0 for none, got -1'),
    ('log level', {'log_level': 'LOUD'}, ValueError, "log_level must be 'DEBUG', .*, got 'LOUD'"),
    ('scope', {'default_scope': 3}, TypeError, 'default_scope must be a name, got 3'),
    ('randomness', {'randomness': 3}, TypeError, 'randomness must be a dict, got 3'),
    ('evaluator', {'val_evaluator': 'Accuracy'}, TypeError, 'val_evaluator must be a dict or a list of them, got'),
    ('test config', {'test_cfg': True}, TypeError, 'test_cfg must be a dict, got True'),
    ('runner of a number', {'runner_type': 3}, ValueError, 'must be the name of a runner, .*, got 3'),
    ('workers', {'train_dataloader.num_workers': -1}, ValueError, 'num_workers must be a whole number of at least 0'),
    ('collate', {'train_dataloader.collate_fn': 'x'}, TypeError, r"collate_fn must be a dict\(type=…\), got 'x'"),
    ('collate of none', {'train_dataloader.collate_fn': dict(type=3)}, TypeError, 'collate_fn needs the type of a fun'),
    ('hook', {'custom_hooks': ['ResultHook']}, TypeError, "a hook is given as dict.type=…., got 'ResultHook'"),
    ('hook of a name', {'default_hooks.logger': 'LoggerHook'}, TypeError, 'a hook is given as dict'),
    ('teacher of a number', {'model.teacher_ckpt': 3}, TypeError, 'is given by the path of its file, got 3'),
    ('launcher', {'@launcher': 'pytorch'}, ValueError,
     'needs RANK, .* which torchrun sets: start with tools/dist_train.sh'),
    ('work dir', {'@work_dir': '{files}/other.pth'}, FileExistsError, 'other.pth is a file, a folder is needed'),
]  # fmt: skip
