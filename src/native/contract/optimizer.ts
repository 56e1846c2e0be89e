/** Optimizers, schedules and groups of parameters of a training session. Part of contract.ts. */

export type OptimizerOptions =
  | { name: 'sgd'; momentum?: number; dampening?: number; nesterov?: boolean }
  | { name: 'adamw' | 'adam'; betas?: [number, number]; eps?: number; amsgrad?: boolean }
  /** As torch.optim has them; defaults are torch's. */
  | { name: 'rmsprop'; alpha?: number; eps?: number; momentum?: number; centered?: boolean }
  | { name: 'adagrad'; lr_decay?: number; initial_accumulator_value?: number; eps?: number }
  | { name: 'radam'; betas?: [number, number]; eps?: number; decoupled_weight_decay?: boolean }
  | {
      name: 'nadam';
      betas?: [number, number];
      eps?: number;
      momentum_decay?: number;
      decoupled_weight_decay?: boolean;
    }
  /** As timm has them; defaults are timm's. */
  | { name: 'lion'; betas?: [number, number] }
  | {
      name: 'lamb';
      betas?: [number, number];
      eps?: number;
      /** Largest norm of all gradients together. Default 1; null: no limit. */
      max_grad_norm?: number | null;
      bias_correction?: boolean;
      grad_averaging?: boolean;
      trust_clip?: boolean;
      /** Adapt the rate of parameters without weight decay, too. Default false. */
      always_adapt?: boolean;
      decoupled_decay?: boolean;
    }
  | {
      name: 'lars';
      momentum?: number;
      nesterov?: boolean;
      trust_coeff?: number;
      eps?: number;
      trust_clip?: boolean;
      always_adapt?: boolean;
    };

export interface ScheduleCommon {
  /** Optimizer steps of linear warm-up, before the course begins to count. `total_steps` include them. */
  warmup_steps?: number;
  /** Factor on the course's first rate at step 0. Default 0.01. */
  warmup_start?: number;
  /** Optimizer steps of one step of the course: those of an epoch for schedules per epoch. Default 1. */
  interval?: number;
  /**
   * From step `start` on the rate goes within `anneal_steps` (default 0) from what the schedule says there to `lr`
   * (torch.optim.swa_utils.SWALR). Not with `reduce_on_plateau`.
   */
  swa?: { start: number; lr: number; anneal_steps?: number; anneal?: 'cos' | 'linear' };
}

/** The learning rate of step i (0-based, counted in optimizer steps) is a pure function of these numbers. */
export type ScheduleOptions = ScheduleCommon &
  (
    | { name: 'constant'; lr: number }
    /** lr · gamma^floor(i / step_size). */
    | { name: 'step'; lr: number; step_size: number; gamma?: number }
    | { name: 'multistep'; lr: number; milestones: number[]; gamma?: number }
    | { name: 'exponential'; lr: number; gamma: number }
    /** (lr − min_lr) · (1 − i/total_steps)^power + min_lr. `power` default 1. */
    | { name: 'polynomial'; lr: number; min_lr?: number; total_steps: number; power?: number }
    /** Half a cosine from lr down to min_lr at total_steps; behind that it rises again. */
    | { name: 'cosine'; lr: number; min_lr?: number; total_steps: number }
    /** Periods of t_0, t_0·t_mult, t_0·t_mult², … steps. */
    | { name: 'cosine_restarts'; lr: number; min_lr?: number; t_0: number; t_mult?: number }
    /** Smith & Topin 2017, torch.optim.lr_scheduler.OneCycleLR. */
    | {
        name: 'one_cycle';
        max_lr: number;
        total_steps: number;
        /** Default 0.3. */
        pct_start?: number;
        /** Default 25. */
        div_factor?: number;
        /** Default 1e4. */
        final_div_factor?: number;
        /** Default `cos`. */
        anneal?: 'cos' | 'linear';
        three_phase?: boolean;
        /** Momentum, or the first beta, moves between these against the rate. Default false, 0.85, 0.95. */
        cycle_momentum?: boolean;
        base_momentum?: number;
        max_momentum?: number;
      }
    /** torch.optim.lr_scheduler.ReduceLROnPlateau over the values given to `observe`: the one schedule with a state. */
    | {
        name: 'reduce_on_plateau';
        lr: number;
        min_lr?: number;
        mode?: 'min' | 'max';
        factor?: number;
        patience?: number;
        threshold?: number;
        threshold_mode?: 'rel' | 'abs';
        cooldown?: number;
        eps?: number;
      }
  );

export interface ParameterGroup {
  parameters: string[];
  weight_decay: number;
  /** Factor on the schedule's rate. Default 1. */
  lr_scale?: number;
}
