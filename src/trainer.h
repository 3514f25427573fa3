#pragma once
#include "model.h"
#include "mpi/coordinator.h"
#include "run.h"
#include "searched.h"
#include "start.h"
#include "survey.h"
#include "train_report.h"
#include "train_step.h"
#include "watch.h"

/** What a training holds: shared by train.c and train_poses.c only. */
typedef struct het_trainer {
    het_comm *comm;
    het_config *config;
    het_stack *stack;
    int stores;        /* the images of the stack are to lie in the device's memory */
    het_images images;
    het_loader *loader;
    het_start start;  /* while task one uses the poses found, */
    int searching;    /* or: they are searched as training goes on */
    het_searched searched;
    het_model *model;
    het_survey survey;
    het_run run;
    het_run_state state;
    het_coordinator coordinator;
    het_report report;
    het_watch watch;
    het_stepper stepper;
} het_trainer;
