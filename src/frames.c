#include "frames.h"

#include <math.h>
#include <string.h>

#include "log.h"
#include "physics/rotation.h"

static const double DEGREES = 57.29577951308232;
static const double MOST = 45.0;  /* degrees: a compromise between parts lies not farther off */
static const double LEAST = 2.0;  /* degrees: less is left to refinement */
static const double GAIN = 0.05;  /* of the correlation, at least (10 % and more where frames differ, 3.5 % at most elsewhere: docs/poses.md), */
static const double SURE = 5.0;   /* and this many standard deviations of that of noise */
static const double POOR = 0.8;   /* of the best correlation: less, and the other hand is tried */
static const het_pose3 STAYS = {.a = {1, 0, 0, 0, 1, 0, 0, 0, 1}, .hand = 1};

/* M R M, M = diag(1,1,-1) */
static void mirror(double r[9])
{
    static const int changed[4] = {2, 5, 6, 7};
    for (int i = 0; i < 4; i++) r[changed[i]] = -r[changed[i]];
}

/* An image of V at R is one of V(-x) at diag(-1,-1,1) R, and V_old(M A y) = V_old(-diag(-1,-1,1) A y). */
void het_frames_move(float rotation[9], float shift[2], const het_pose3 *frame)
{
    double old[9], now[9];
    for (int i = 0; i < 9; i++) old[i] = rotation[i];
    if (frame->hand < 0) mirror(old);
    het_rotation_multiply(now, old, frame->a);
    for (int i = 0; i < 9; i++) rotation[i] = (float)now[i];
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 3; k++) shift[i] -= (float)(now[3 * i + k] * frame->u[k]);
}

/* M^h1 A1 M^h2 A2 = M^(h1 h2) (M^h2 A1 M^h2) A2 */
het_pose3 het_frames_then(const het_pose3 *first, const het_pose3 *second)
{
    het_pose3 both = *second, turned = *first;
    if (second->hand < 0) {
        mirror(turned.a);
        turned.u[2] = -turned.u[2];
    }
    het_rotation_multiply(both.a, turned.a, second->a);
    both.hand = first->hand * second->hand;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) both.u[i] += second->a[3 * j + i] * turned.u[j];
    return both;
}

void het_frames_tree(int *parent, int *order, const double *alike, int64_t stride, int n, int root)
{
    double most[HET_FRAMES];
    int in_tree[HET_FRAMES] = {0};
    HET_ASSERT(n <= HET_FRAMES);
    for (int i = 0; i < n; i++) most[i] = -INFINITY;
    most[root] = INFINITY;
    parent[root] = -1;
    for (int step = 0; step < n; step++) {
        int next = -1;
        for (int i = 0; i < n; i++)
            if (!in_tree[i] && (next < 0 || most[i] > most[next])) next = i;
        in_tree[next] = 1;
        order[step] = next;
        for (int i = 0; i < n; i++) {
            if (in_tree[i] || alike[i * stride + next] <= most[i]) continue;
            most[i] = alike[i * stride + next];
            parent[i] = next;
        }
    }
}

static double turn_of(const het_pose3 *pose)
{
    return DEGREES * het_rotation_angle(het_rotation_distance2(pose->a, STAYS.a));
}

/* Of the ball of radius `reach` one half is independent, two numbers each. */
static int gains(double from, double to, int64_t reach)
{
    const double deviation = 1.0 / sqrt(4.0 / 3.0 * M_PI * pow((double)reach, 3.0));
    return to - from >= GAIN * to && to - from >= SURE * deviation;
}

int het_frames_differ(const het_pose3 *pose, const double correlations[2], int64_t reach)
{
    return turn_of(pose) >= LEAST && gains(correlations[0], correlations[1], reach);
}

/* How a cluster's map lies in the frame of another's. */
typedef struct branch {
    int parent;
    het_pose3 pose;
} branch;

/* How alike the maps of two clusters are as they lie, but for a trifle. */
static het_status compare(double same[HET_FRAMES][HET_FRAMES], const het_volume *map, int n, int64_t reach)
{
    het_status status = HET_OK;
    double c[2];
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < i; j++) {
            het_pose3 near = STAYS;
            HET_TRY(het_place_search(&near, c, &map[i], &map[j], 0.0, reach));
            same[i][j] = same[j][i] = c[1];
        }
    }
done:
    return status;
}

/* The mirror image of a cluster's map in the frame of the cluster so far whose map it fits best, if that is clearly better than
 * the map itself fits. */
static het_status try_mirrored(branch *to, double own, const het_volume *map, int cluster, const int *order, int placed, int64_t reach)
{
    het_status status = HET_OK;
    double best = own;
    for (int i = 0; i < placed; i++) {
        double c[2];
        het_pose3 mirrored = STAYS;
        mirrored.hand = -1;
        HET_TRY(het_place_search(&mirrored, c, &map[cluster], &map[order[i]], M_PI, reach));
        if (c[1] <= best || !gains(own, c[1], reach)) continue;
        best = c[1];
        *to = (branch){order[i], mirrored};
    }
done:
    return status;
}

het_status het_frames_register(het_pose3 *frame, const het_volume *map, const int64_t *size, int n, int64_t reach, int64_t box)
{
    het_status status = HET_OK;
    double same[HET_FRAMES][HET_FRAMES] = {{0}}, best = 0.0, c[2];
    int parent[HET_FRAMES], order[HET_FRAMES], root = 0;
    for (int i = 1; i < n; i++)
        if (size[i] > size[root]) root = i;
    HET_TRY(compare(same, map, n, reach));
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++) best = fmax(best, same[i][j]);
    het_frames_tree(parent, order, same[0], HET_FRAMES, n, root);
    frame[root] = STAYS;
    for (int i = 1; i < n; i++) {
        const int cluster = order[i];
        branch to = {.parent = parent[cluster], .pose = STAYS};
        HET_TRY(het_place_search(&to.pose, c, &map[cluster], &map[to.parent], MOST / DEGREES, reach));
        if (!het_frames_differ(&to.pose, c, reach)) to.pose = STAYS;
        if (same[cluster][to.parent] < POOR * best) HET_TRY(try_mirrored(&to, c[1], map, cluster, order, i, reach));
        for (int k = 0; k < 3; k++) to.pose.u[k] *= (double)box / (double)map->box;
        frame[cluster] = het_frames_then(&to.pose, &frame[to.parent]);
    }
done:
    return status;
}

void het_frames_move_all(float *rotation, float *shift, const int64_t *label, int64_t count, const het_pose3 *frame, int n)
{
    double farthest = 0.0;
    int turned = 0, mirrored = 0;
    for (int i = 0; i < n; i++) {
        const double turn = turn_of(&frame[i]);
        if (frame[i].hand < 0) {
            mirrored++;
        } else if (turn > 0.0) {
            turned++;
            farthest = fmax(farthest, turn);
        }
    }
    for (int64_t i = 0; i < count; i++) het_frames_move(rotation + 9 * i, shift + 2 * i, &frame[label[i]]);
    if (turned > 0)
        het_info("frames: %d of %d groups of conformations turned into the frame of the others, by up to %.1f degrees", turned, n, farthest);
    if (mirrored > 0) het_info("frames: %d of %d groups of conformations had the other hand, and were mirrored", mirrored, n);
    if (turned + mirrored == 0) het_info("frames: all conformations lie in one");
}
